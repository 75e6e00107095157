"""What befalls nodes that share a bucket: other settings, older tokens, slow commits, refused writes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.api.call import DOOM_PATIENCE
from tests.nodes.conftest import Balancing, sound
from tests.support import access
from tests.support.balancers import DEPLOY
from tests.support.images import MIB
from tests.support.nodes import Node, Storage, bucket_of, nodes
from tests.support.registry import (
    Blob,
    Registry,
    a_name,
    image,
    refused,
    some_bytes,
    with_query,
)
from tests.support.s3 import S3Store
from tests.support.s3proxy import Answer, Hold, S3Proxy, s3_proxy

SECRET = "what both have"
IDLE = 60.0
"""Seconds of silence after which balancers hang up that nobody has told otherwise."""
WRITES = [
    "PutObject",
    "CopyObject",
    "CreateMultipartUpload",
    "UploadPart",
    "DeleteObject",
    "DeleteObjects",
]


@pytest.fixture(scope="module")
def proxy(rgw: S3Store) -> Iterator[S3Proxy]:
    with s3_proxy(rgw) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def storage(
    rgw: S3Store, proxy: S3Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    """A bucket behind the proxy."""
    with rgw.fresh("matrix") as bucket:
        yield bucket_of(proxy.store, bucket, tmp_path_factory.mktemp("matrix"))


@pytest.fixture(scope="module")
def both(storage: Storage) -> Iterator[list[Node]]:
    with nodes(storage, http={"secret": SECRET}) as running:
        yield running


def pulled(registry: Registry, name: str, blob: Blob) -> bool:
    response = registry.get(f"/v2/{name}/blobs/{blob.digest}", follow_redirects=True)
    assert response.status_code == 200, response.text
    return response.content == blob.data


def test_nodes_in_the_middle_of_a_change_of_settings(storage: Storage) -> None:
    """As while a new configuration is rolled out: parts of other sizes, copies made in other ways."""
    old = Node(
        storage,
        storage={"s3": {"chunksize": 8 * MIB, "uploadmemory": 64 * MIB}},
        http={"secret": SECRET},
    )
    new = Node(
        storage,
        storage={"s3": {"multipartcopythresholdsize": 0}, "redirect": {"disable": True}},
        http={"secret": SECRET},
    )
    old.start()
    new.start()
    one, other = Registry(old.url), Registry(new.url)
    for first, second in ((one, other), (other, one)):
        name, blob = a_name(), Blob(some_bytes(21 * MIB))
        location = first.patch(first.start(name), blob.data[: 9 * MIB], 0).headers["Location"]
        location = second.patch(location, blob.data[9 * MIB : 15 * MIB]).headers["Location"]
        assert first.get(location).headers["Range"] == f"0-{15 * MIB - 1}"
        assert second.finish(location, blob.digest, blob.data[15 * MIB :]).status_code == 201
        assert pulled(first, name, blob)
        assert pulled(second, name, blob)
    one.close()
    other.close()
    old.close()
    new.close()
    sound(storage, old, new)


def test_a_token_that_has_only_what_every_release_knows(both: list[Node]) -> None:
    """From a node of an older release, or CNCF Distribution's: the rest is found in the bucket."""
    one, other = (Registry(node.url) for node in both)
    name, blob = a_name(), Blob(some_bytes(6 * MIB))
    location = one.patch(one.start(name), blob.data[: 2 * MIB], 0).headers["Location"]
    answer = other.patch(with_less(location), blob.data[2 * MIB : 4 * MIB])
    location = answer.headers["Location"]
    answer = one.finish(with_less(location), blob.digest, blob.data[4 * MIB :])
    assert answer.status_code == 201, answer.text
    assert pulled(other, name, blob)
    one.close()
    other.close()


def with_less(location: str) -> str:
    """The Location with a token of the four fields that CNCF Distribution has."""
    path, _, token = location.partition("?_state=")
    content = json.loads(base64.urlsafe_b64decode(token)[32:])
    known = {field: content[field] for field in ("Name", "UUID", "Offset", "StartedAt")}
    assert known != content
    message = json.dumps(known).encode()
    signature = hmac.new(SECRET.encode(), message, hashlib.sha256).digest()
    return with_query(path, _state=base64.urlsafe_b64encode(signature + message).decode())


@pytest.mark.parametrize("balancer", ["nginx", "haproxy"])
def test_a_commit_that_takes_long_is_waited_for(
    both: list[Node], proxy: S3Proxy, balancing: Balancing, balancer: str
) -> None:
    """And made once: a balancer must not ask another node while the first is still at it."""
    held = Hold()
    name, blob = a_name(), Blob(some_bytes(2 * MIB))
    registry = Registry(balancing(balancer, both).url)
    location = registry.patch(registry.start(name), blob.data).headers["Location"]
    proxy.inject(held, operation="CopyObject", key="/blobs/")
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(registry.finish, location, blob.digest)
        assert held.reached.wait(30)
        with pytest.raises(TimeoutError):
            closing.result(3)
        held.go_on.set()
        assert closing.result(30).status_code == 201
    assert pulled(registry, name, blob)
    asked = [line for node in both for line in access.requests(node.server, repository=name)]
    assert [line["method"] for line in asked].count("PUT") == 1
    registry.close()
    sound(both[0].storage, *both)


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("haproxy.cfg", r"timeout server (\d+)s"),
        ("haproxy.cfg", r"timeout client (\d+)s"),
        ("nginx.conf", r"proxy_read_timeout (\d+)s;"),
        ("nginx.conf", r"send_timeout (\d+)s;"),
    ],
)
def test_balancers_are_more_patient_than_a_node(file: str, setting: str) -> None:
    """A commit that waits for a garbage collection is answered before anybody hangs up."""
    (seconds, *_) = re.findall(setting, (DEPLOY / file).read_text())
    assert float(seconds) >= IDLE > DOOM_PATIENCE


def test_a_bucket_that_refuses_writes(both: list[Node], proxy: S3Proxy) -> None:
    """As under maintenance: each node goes on to serve, refuses pushes, and takes them up again."""
    registries = [Registry(node.url) for node in both]
    name = a_name()
    there = registries[0].push(name, "1", image(some_bytes(100_000)))
    location = registries[0].start(name)
    for operation in WRITES:
        proxy.inject(Answer(403, "AccessDenied"), operation=operation, times=None)
    blob = Blob(some_bytes(100_000))
    for registry in registries:
        assert registry.get(f"/v2/{name}/manifests/1").content == there.content
        assert all(pulled(registry, name, each) for each in there.blobs)
        assert registry.tags(name) == ["1"]
        for response in (
            registry.finish(registry.start(name), blob.digest, blob.data),
            registry.put_manifest(name, "2", there),
            registry.ask("DELETE", f"/v2/{name}/manifests/1"),
        ):
            refused(response, 503, "UNAVAILABLE")
            assert int(response.headers["Retry-After"]) > 0
        assert registry.get(f"/v2/{name}/manifests/1").content == there.content
        assert registry.get(f"/v2/{name}/blobs/{blob.digest}").status_code == 404
    proxy.heal()
    assert registries[1].finish(location, blob.digest, blob.data).status_code == 201
    assert registries[1].put_manifest(name, "2", there).status_code == 201
    for registry in registries:
        assert pulled(registry, name, blob)
        assert registry.tags(name) == ["1", "2"]
        registry.close()
