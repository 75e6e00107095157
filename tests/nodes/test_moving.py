"""Requests of one client that come to another node each time; no balancer, so that it is known which."""

from __future__ import annotations

import base64
import json
from itertools import cycle
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from storage import layout
from storage.hashing import Hasher
from storage.model.reference import RepositoryName
from tests.nodes.conftest import ONE_MACHINE
from tests.support.images import MIB
from tests.support.nodes import Node, Storage, nodes
from tests.support.registry import (
    Blob,
    Registry,
    a_name,
    digest_of,
    image,
    refused,
    some_bytes,
)

Apis = tuple[Registry, Registry]


def blob_path(name: str, digest: str) -> str:
    return f"/v2/{name}/blobs/{digest}"


def pulled(registry: Registry, name: str, digest: str) -> bytes:
    """The blob, by way of the bucket if the node says so."""
    response = registry.get(blob_path(name, digest), follow_redirects=True)
    assert response.status_code == 200, response.text
    return response.content


def token_of(location: str) -> dict[str, object]:
    (token,) = parse_qs(urlsplit(location).query)["_state"]
    content: dict[str, object] = json.loads(base64.urlsafe_b64decode(token)[32:])
    return content


def upload_directory(storage: Storage, name: str) -> Path:
    assert storage.root is not None
    (found,) = (storage.root / layout.uploads(RepositoryName(name))).iterdir()
    return found


@pytest.mark.parametrize("size", [100_000, 6 * MIB], ids=["small", "large"])
def test_each_request_on_another_node(apis: Apis, size: int) -> None:
    """POST, PATCH, PATCH, GET, PUT: what each needs is in the Location and the storage."""
    one, other = apis
    name, blob = a_name(), Blob(some_bytes(2 * size + 1000))
    location = one.start(name)
    first = other.patch(location, blob.data[:size], 0)
    assert first.status_code == 202, first.text
    second = one.patch(first.headers["Location"], iter([blob.data[size : 2 * size]]))
    assert second.status_code == 202, second.text
    status = other.get(second.headers["Location"])
    assert (status.status_code, status.headers["Range"]) == (204, f"0-{2 * size - 1}")
    location = status.headers["Location"]
    final = one.finish(location, blob.digest, blob.data[2 * size :])
    assert final.status_code == 201, final.text
    for registry in apis:
        assert pulled(registry, name, blob.digest) == blob.data


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_many_chunks_by_turns(apis: Apis, algorithm: str) -> None:
    name, blob = a_name(), Blob(some_bytes(500_000), algorithm=algorithm)
    location = apis[0].start(name, digest_algorithm=algorithm)
    turn = cycle(reversed(apis))
    for offset in range(0, len(blob.data), 50_000):
        response = next(turn).patch(location, blob.data[offset : offset + 50_000], offset)
        assert response.status_code == 202, response.text
        location = response.headers["Location"]
    assert next(turn).finish(location, blob.digest).status_code == 201
    for registry in apis:
        assert pulled(registry, name, blob.digest) == blob.data


def test_the_hash_state_moves_with_the_upload(apis: Apis, storage: Storage) -> None:
    """Nothing is read again: a state that lies shows in the digest that the next node finds."""
    one, other = apis
    name, blob = a_name(), Blob(some_bytes(200_000))
    location = one.start(name)
    location = other.patch(location, blob.data[:100_000], 0).headers["Location"]
    if storage.in_bucket:  # the client carries it
        assert len(base64.b64decode(str(token_of(location)["Hash"]))) == 108
        location = one.patch(location, blob.data[100_000:], 100_000).headers["Location"]
        assert token_of(location)["Digest"] == blob.digest
        assert other.finish(location, blob.digest).status_code == 201
        return
    state = upload_directory(storage, name) / "hashstates" / "sha256" / "100000"
    liar = Hasher("sha256")
    liar.update(bytes(100_000))
    lie = liar.export()
    assert lie is not None
    assert len(lie) == state.stat().st_size
    state.write_bytes(lie)
    begun = one.patch(location, blob.data[100_000:150_000], 100_000)
    wrong = digest_of(bytes(100_000) + blob.data[100_000:150_000])
    assert token_of(begun.headers["Location"])["Digest"] == wrong
    assert other.ask("DELETE", begun.headers["Location"]).status_code == 204


def test_without_hash_states_the_next_node_reads_the_data(apis: Apis, storage: Storage) -> None:
    one, other = apis
    name, blob = a_name(), Blob(some_bytes(200_000))
    location = one.patch(one.start(name), blob.data[:100_000], 0).headers["Location"]
    location = other.patch(location, blob.data[100_000:150_000], 100_000).headers["Location"]
    if not storage.in_bucket:
        for state in (upload_directory(storage, name) / "hashstates").rglob("[0-9]*"):
            state.unlink()
    location = one.get(location).headers["Location"]  # a status carries no digest and no hash state
    assert "Hash" not in token_of(location)
    assert other.finish(location, blob.digest, blob.data[150_000:]).status_code == 201
    assert pulled(one, name, blob.digest) == blob.data


def test_a_closing_request_repeated_on_the_other_node(apis: Apis) -> None:
    """As after a node that died with its answer: whoever asks again is told that all is done."""
    one, other = apis
    name, blob = a_name(), Blob(some_bytes(5000))
    begun = one.start(name)
    patched = one.patch(begun, blob.data).headers["Location"]
    for registry in (one, other, one):
        assert registry.finish(patched, blob.digest).status_code == 201
        assert registry.finish(begun, blob.digest, blob.data).status_code == 201


def test_what_the_other_node_has_published_is_not_written_to(apis: Apis, storage: Storage) -> None:
    """Also by a node that had the file open a moment ago, under the name that it had as an upload."""
    one, other = apis
    name, blob = a_name(), Blob(some_bytes(3000))
    location = other.patch(one.start(name), blob.data).headers["Location"]
    assert one.finish(location, blob.digest).status_code == 201
    late = other.patch(location, b"more")
    if not storage.in_bucket:
        refused(late, 404, "BLOB_UPLOAD_UNKNOWN")
    for registry in apis:
        assert pulled(registry, name, blob.digest) == blob.data


def test_an_upload_cancelled_on_the_other_node(apis: Apis) -> None:
    one, other = apis
    name, content = a_name(), some_bytes(1000)
    location = one.patch(one.start(name), content).headers["Location"]
    assert other.ask("DELETE", location).status_code == 204
    refused(one.patch(location, b"more"), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(one.finish(location, digest_of(content)), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(one.get(location), 404, "BLOB_UPLOAD_UNKNOWN")


def test_what_one_node_missed_it_sees_once_the_other_has_it(apis: Apis) -> None:
    """Nobody remembers that something is absent."""
    one, other = apis
    name, document = a_name(), image(some_bytes())
    for registry in apis:
        assert registry.ask("HEAD", f"/v2/{name}/manifests/1").status_code == 404
        for blob in document.blobs:
            assert registry.ask("HEAD", blob_path(name, blob.digest)).status_code == 404
    one.push(name, "1", document)
    for reference in ("1", document.digest):
        assert other.get(f"/v2/{name}/manifests/{reference}").content == document.content
    for blob in document.blobs:
        assert pulled(other, name, blob.digest) == blob.data
    assert other.tags(name) == ["1"]
    assert name in other.get("/v2/_catalog?n=1000").json()["repositories"]


def test_a_tag_is_what_it_was_made_last_wherever(apis: Apis) -> None:
    name = a_name()
    for registry in apis * 3:
        document = registry.push(name, "moving", image())
        for reader in apis:
            assert reader.get(f"/v2/{name}/manifests/moving").content == document.content
    apis[0].ask("DELETE", f"/v2/{name}/manifests/moving")
    for reader in apis:
        assert reader.ask("HEAD", f"/v2/{name}/manifests/moving").status_code == 404
        assert reader.tags(name) == []


def test_a_mount_of_what_the_other_node_took(apis: Apis) -> None:
    one, other = apis
    source, target = a_name("from"), a_name("to")
    blob = one.push_blob(source, some_bytes())
    mounting = f"/v2/{target}/blobs/uploads/?mount={blob.digest}&from={source}"
    assert other.ask("POST", mounting).status_code == 201
    assert pulled(one, target, blob.digest) == blob.data


def test_a_node_that_died_between_two_requests(storage: Storage) -> None:
    """The client goes on at the other, with the Location that it has."""
    name, blob = a_name(), Blob(some_bytes(3 * 100_000))
    with nodes(storage) as (first, second):
        one, other = Registry(first.url), Registry(second.url)
        location = one.start(name)
        location = one.patch(location, blob.data[:100_000], 0).headers["Location"]
        first.kill()
        response = other.patch(location, blob.data[100_000:200_000], 100_000)
        assert response.status_code == 202, response.text
        first.start()
        second.kill()
        location = response.headers["Location"]
        assert one.finish(location, blob.digest, blob.data[200_000:]).status_code == 201
        assert pulled(one, name, blob.digest) == blob.data
        one.close()
        other.close()


@pytest.mark.parametrize("storage", ONE_MACHINE, indirect=True)
def test_a_node_with_another_secret(storage: Storage, pair: list[Node]) -> None:
    """It serves what is stored, takes uploads of its own, and says what is wrong with the others'."""
    name, blob = a_name(), Blob(some_bytes(2000))
    alone = Node(storage, http={"secret": "not what the others have"})
    alone.start()
    usual, odd = Registry(pair[0].url), Registry(alone.url)
    begun = usual.start(name)
    location = usual.patch(begun, blob.data[:1000], 0).headers["Location"]
    for response in (
        odd.patch(location, blob.data[1000:], 1000),
        odd.finish(location, blob.digest, blob.data[1000:]),
        odd.ask("DELETE", location),
    ):
        assert "same http.secret" in refused(response, 404, "BLOB_UPLOAD_INVALID")
    # Nothing is lost by it: the node that began goes on, and the odd one by a Location of its own.
    assert usual.get(location).headers["Range"] == "0-999"
    own = odd.get(location).headers["Location"]
    assert odd.finish(own, blob.digest, blob.data[1000:]).status_code == 201
    assert pulled(usual, name, blob.digest) == blob.data
    document = odd.push(name, "1", image(some_bytes()))
    assert usual.get(f"/v2/{name}/manifests/1").content == document.content
    usual.close()
    odd.close()
    alone.stop()


@pytest.mark.parametrize("storage", ONE_MACHINE, indirect=True)
def test_nodes_with_the_same_secret_need_no_key_in_the_storage(storage: Storage) -> None:
    name, blob = a_name(), Blob(some_bytes(2000))
    with nodes(storage, http={"secret": "what both have"}) as (first, second):
        one, other = Registry(first.url), Registry(second.url)
        location = one.patch(one.start(name), blob.data[:1000], 0).headers["Location"]
        assert other.finish(location, blob.digest, blob.data[1000:]).status_code == 201
        one.close()
        other.close()
