"""end-4, 5, 6, 11, 13 and 14: every way in which a blob comes in."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.registry import (
    Blob,
    Registry,
    Serving,
    a_name,
    connect,
    digest_of,
    receive,
    refused,
    request_head,
    some_bytes,
    together,
    with_query,
)

CONTENT = bytes(range(256)) * 4000


def path(name: str, digest: str) -> str:
    return f"/v2/{name}/blobs/{digest}"


def upload_id(location: str) -> str:
    return location.partition("?")[0].rpartition("/")[2]


def check(registry: Registry, name: str, blob: Blob) -> None:
    for response in registry.everywhere("GET", path(name, blob.digest)):
        assert response.status_code == 200
        assert response.content == blob.data


def created(registry: Registry, name: str, blob: Blob, response: httpx.Response) -> None:
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == path(name, blob.digest)
    assert response.headers["Docker-Content-Digest"] == blob.digest
    assert response.headers["Content-Length"] == "0"
    check(registry, name, blob)


def no_uploads(registry: Registry, name: str) -> None:
    if registry.root is not None:
        top = registry.root / "docker/registry/v2/repositories" / name / "_uploads"
        assert not top.exists() or list(top.iterdir()) == []


BLOBS = {
    "usual": Blob(CONTENT),
    "empty": Blob(b""),
    "one byte": Blob(b"x"),
    "the empty JSON": Blob(b"{}"),
    "sha512": Blob(CONTENT, algorithm="sha512"),
    "empty by sha512": Blob(b"", algorithm="sha512"),
}


@pytest.fixture(params=BLOBS)
def blob(request: pytest.FixtureRequest) -> Blob:
    return BLOBS[request.param]


def test_a_new_upload(registry: Registry) -> None:
    name = a_name()
    for end in ("/", ""):
        response = registry.ask("POST", f"/v2/{name}/blobs/uploads{end}")
        assert (response.status_code, response.content) == (202, b"")
        assert response.headers["Range"] == "0-0"
        assert response.headers["Content-Length"] == "0"
        location = response.headers["Location"]
        assert location.startswith(f"/v2/{name}/blobs/uploads/")
        assert response.headers["Docker-Upload-UUID"] == upload_id(location)
        uuid.UUID(upload_id(location))
        assert "OCI-Chunk-Min-Length" not in response.headers


def test_post_then_put(registry: Registry, blob: Blob) -> None:
    name = a_name()
    response = registry.finish(registry.start(name), blob.digest, blob.data)
    created(registry, name, blob, response)
    no_uploads(registry, name)


def test_single_post(registry: Registry, blob: Blob) -> None:
    """end-4b"""
    name = a_name()
    response = registry.ask(
        "POST", f"/v2/{name}/blobs/uploads/?digest={blob.digest}", content=blob.data
    )
    created(registry, name, blob, response)
    no_uploads(registry, name)


def test_single_post_without_a_length(registry: Registry) -> None:
    name, blob = a_name(), Blob(CONTENT)
    response = registry.ask(
        "POST", f"/v2/{name}/blobs/uploads/?digest={blob.digest}", content=pieces(CONTENT)
    )
    created(registry, name, blob, response)


def test_a_post_that_only_names_the_digest_begins_an_upload(registry: Registry) -> None:
    name, blob = a_name(), Blob(some_bytes())
    response = registry.ask("POST", f"/v2/{name}/blobs/uploads/?digest={blob.digest}")
    assert response.status_code == 202
    created(
        registry,
        name,
        blob,
        registry.finish(response.headers["Location"], blob.digest, blob.data),
    )


def pieces(data: bytes, size: int = 10_007) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def test_streamed(registry: Registry, blob: Blob) -> None:
    """As docker does it: one PATCH without a length, then an empty PUT."""
    name = a_name()
    response = registry.patch(registry.start(name), pieces(blob.data))
    assert (response.status_code, response.content) == (202, b"")
    assert response.headers["Range"] == f"0-{max(len(blob.data) - 1, 0)}"
    created(registry, name, blob, registry.finish(response.headers["Location"], blob.digest))
    no_uploads(registry, name)


@pytest.mark.parametrize("size", [1, 1000, 400_000])
@pytest.mark.parametrize("closing", [True, False])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_in_chunks(registry: Registry, size: int, closing: bool, algorithm: str) -> None:
    """end-5, each chunk by a connection of its own; the last one in the PUT or not."""
    name = a_name()
    blob = Blob(some_bytes(min(size * 3 + 5, 2 * size + 7)), algorithm=algorithm)
    location = registry.start(name, digest_algorithm=algorithm)
    offset = 0
    while offset < len(blob.data) - (size if closing else 0):
        chunk = blob.data[offset : offset + size]
        registry.http.headers["Connection"] = "close"
        try:
            response = registry.patch(location, chunk, offset)
        finally:
            del registry.http.headers["Connection"]
        assert response.status_code == 202, response.text
        offset += len(chunk)
        assert response.headers["Range"] == f"0-{offset - 1}"
        assert response.headers["Docker-Upload-UUID"] == upload_id(location)
        location = response.headers["Location"]
    rest = blob.data[offset:]
    headers = {"Content-Range": f"{offset}-{len(blob.data) - 1}"} if rest else {}
    created(registry, name, blob, registry.finish(location, blob.digest, rest, headers=headers))
    no_uploads(registry, name)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("begun_as", ["sha256", "sha512", None])
def test_any_digest_may_close_any_upload(
    registry: Registry, algorithm: str, begun_as: str | None
) -> None:
    name, blob = a_name(), Blob(some_bytes(100_000), algorithm=algorithm)
    location = registry.start(name, **({"digest_algorithm": begun_as} if begun_as else {}))
    location = registry.patch(location, blob.data[:70_000], 0).headers["Location"]
    location = registry.patch(location, blob.data[70_000:], 70_000).headers["Location"]
    created(registry, name, blob, registry.finish(location, blob.digest))


def test_the_status_of_an_upload(registry: Registry) -> None:
    """end-13"""
    name, blob = a_name(), Blob(CONTENT)
    begun = registry.start(name)
    kept = 0
    for _ in range(3):
        for response in registry.everywhere("GET", begun):
            assert (response.status_code, response.content) == (204, b"")
            assert response.headers["Range"] == f"0-{max(kept - 1, 0)}"
            assert response.headers["Docker-Upload-UUID"] == upload_id(begun)
        chunk = CONTENT[kept : kept + 1000]
        location = response.headers["Location"]
        assert registry.patch(location, chunk, kept).status_code == 202
        kept += len(chunk)
    bare = f"/v2/{name}/blobs/uploads/{upload_id(begun)}"
    assert registry.ask("HEAD", bare).headers["Range"] == f"0-{kept - 1}"
    location = registry.get(bare).headers["Location"]
    created(registry, name, blob, registry.finish(location, blob.digest, CONTENT[kept:]))
    if not registry.in_bucket:
        for response in registry.everywhere("GET", begun):
            refused(response, 404, "BLOB_UPLOAD_UNKNOWN")


def test_cancelling(registry: Registry) -> None:
    """end-14"""
    name, content = a_name(), some_bytes(1000)
    location = registry.patch(registry.start(name), content).headers["Location"]
    response = registry.ask("DELETE", location)
    assert (response.status_code, response.content) == (204, b"")
    no_uploads(registry, name)
    for answer in registry.everywhere("GET", location):
        refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")
    if not registry.in_bucket:
        refused(registry.ask("DELETE", location), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(registry.patch(location, b"x"), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(registry.finish(location, digest_of(content)), 404, "BLOB_UPLOAD_UNKNOWN")


def test_the_closing_request_may_be_repeated(registry: Registry) -> None:
    name, blob = a_name(), Blob(some_bytes(5000))
    begun = registry.start(name)
    patched = registry.patch(begun, blob.data).headers["Location"]
    for _ in range(3):
        created(registry, name, blob, registry.finish(patched, blob.digest))
        created(registry, name, blob, registry.finish(begun, blob.digest, blob.data))


def mount(registry: Registry, name: str, digest: str, source: str | None) -> httpx.Response:
    origin = "" if source is None else f"&from={source}"
    return registry.ask("POST", f"/v2/{name}/blobs/uploads/?mount={digest}{origin}")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_mounting(registry: Registry, named: bool, algorithm: str) -> None:
    """end-11; without `from` because here everybody may read everything."""
    source, target = a_name(), a_name()
    blob = registry.push_blob(source, Blob(some_bytes(), algorithm=algorithm))
    for _ in range(2):
        created(
            registry, target, blob, mount(registry, target, blob.digest, source if named else None)
        )
    assert registry.ask("DELETE", path(target, blob.digest)).status_code == 202
    check(registry, source, blob)


@pytest.mark.parametrize(
    "query",
    [
        "mount={absent}&from={source}",
        "mount={digest}&from=test/no-such-repository",
        "mount={digest}&from=NOT/A/NAME",
        "mount={digest}&from=..",
        "mount={digest}&from=",
        "mount=x&from={source}",
        "mount=&from={source}",
        "mount={absent}",
        "mount={manifest}&from={source}",
    ],
)
def test_what_cannot_be_mounted_is_an_upload(registry: Registry, query: str) -> None:
    source, target = a_name(), a_name()
    blob = registry.push_blob(source, some_bytes())
    document = registry.push_image(source, "latest")
    query = query.format(
        absent=digest_of(b"absent"),
        source=source,
        digest=blob.digest,
        manifest=document.digest,
    )
    response = registry.ask("POST", f"/v2/{target}/blobs/uploads/?{query}")
    assert response.status_code == 202
    assert registry.ask("HEAD", path(target, blob.digest)).status_code == 404
    created(
        registry,
        target,
        blob,
        registry.finish(response.headers["Location"], blob.digest, blob.data),
    )


def test_a_blob_that_one_repository_lost_is_not_mounted_from_it(registry: Registry) -> None:
    source, target = a_name(), a_name()
    blob = registry.push_blob(source, some_bytes())
    registry.ask("DELETE", path(source, blob.digest))
    response = mount(registry, target, blob.digest, source)
    assert response.status_code == 202


def test_a_minimum_for_chunks(serving: Serving) -> None:
    with serving(uploads={"minchunk": 1000}) as registry:
        response = registry.ask("POST", "/v2/a/blobs/uploads/")
        assert response.headers["OCI-Chunk-Min-Length"] == "1000"
        location = response.headers["Location"]
        enough = registry.patch(location, CONTENT[:1000], 0)
        assert "Warning" not in enough.headers
        short = registry.patch(enough.headers["Location"], CONTENT[1000:1010], 1000)
        assert short.status_code == 202
        assert short.headers["Warning"].startswith('299 - "')
        final = registry.finish(short.headers["Location"], digest_of(CONTENT), CONTENT[1010:])
        assert final.status_code == 201


def at_once(registry: Registry, count: int, push: Callable[[int], int]) -> None:
    assert set(together(count, push)) == {201}


@pytest.mark.parametrize("way", ["put", "post", "patch"])
def test_one_blob_by_50_clients_at_once(registry: Registry, way: str) -> None:
    name, blob = a_name(), Blob(some_bytes(200_000))

    def push(number: int) -> int:
        target = name if number % 2 else f"{name}/other"
        if way == "post":
            return registry.ask(
                "POST", f"/v2/{target}/blobs/uploads/?digest={blob.digest}", content=blob.data
            ).status_code
        location = registry.start(target)
        if way == "put":
            return registry.finish(location, blob.digest, blob.data).status_code
        response = registry.patch(location, pieces(blob.data, 50_000))
        assert response.status_code == 202
        return registry.finish(response.headers["Location"], blob.digest).status_code

    at_once(registry, 50, push)
    for target in (name, f"{name}/other"):
        check(registry, target, blob)
        no_uploads(registry, target)


def test_many_uploads_side_by_side(registry: Registry) -> None:
    name = a_name()
    blobs = [Blob(some_bytes(30_000)) for _ in range(40)]

    def push(number: int) -> int:
        location = registry.start(name)
        for offset in range(0, 30_000, 10_000):
            chunk = blobs[number].data[offset : offset + 10_000]
            location = registry.patch(location, chunk, offset).headers["Location"]
        return registry.finish(location, blobs[number].digest).status_code

    at_once(registry, 40, push)
    for blob in blobs:
        assert registry.get(path(name, blob.digest)).content == blob.data


def test_two_chunks_at_once(registry: Registry) -> None:
    """One is taken, the other told where the upload is; their bytes are not mixed."""
    for _ in range(5):
        name = a_name()
        location = registry.start(name)

        def patch(number: int, location: str = location) -> httpx.Response:
            return registry.patch(location, pieces(bytes([number]) * 300_000))

        answers = together(2, patch)
        statuses = [answer.status_code for answer in answers]
        if registry.in_bucket and statuses == [202, 202]:
            for number, answer in enumerate(answers):
                blob = Blob(bytes([number]) * 300_000)
                location = answer.headers["Location"]
                created(registry, name, blob, registry.finish(location, blob.digest))
            continue
        assert sorted(statuses) == [202, 416]
        loser = answers[statuses.index(416)]
        assert loser.headers["Range"] == "0-299999"
        blob = Blob(bytes([statuses.index(202)]) * 300_000)
        created(registry, name, blob, registry.finish(loser.headers["Location"], blob.digest))


def test_a_chunk_while_another_is_still_coming_in(registry: Registry) -> None:
    name, blob = a_name(), Blob(some_bytes(1000))
    location = registry.start(name)
    with connect(registry.url) as slow:
        slow.sendall(request_head("PATCH", location, Content_Length=1000, Expect="100-continue"))
        assert slow.recv(100).startswith(b"HTTP/1.1 100 ")  # so it is the writer now
        slow.sendall(blob.data[:500])
        if registry.balancer == "nginx":  # which says 100 before it has spoken to a node
            began(registry, name)
        if not registry.in_bucket:
            response = registry.patch(location, b"intruder")
            assert "Another request is writing" in refused(response, 416, "RANGE_INVALID")
        slow.sendall(blob.data[500:])
        assert receive(slow, "PATCH").status_code == 202
    location = registry.get(location).headers["Location"]
    created(registry, name, blob, registry.finish(location, blob.digest))


def test_a_client_that_goes_in_the_middle_of_a_chunk(registry: Registry) -> None:
    """What arrived is kept, the status says how much, and the upload goes on to its end."""
    name, blob = a_name(), Blob(CONTENT)
    location = registry.start(name)
    with connect(registry.url) as connection:
        head = request_head("PATCH", location, Content_Length=len(CONTENT))
        connection.sendall(head + CONTENT[:700_000])
    kept = settled(registry, location, 700_000)
    assert kept == 700_000 or (registry.balancer and kept < 700_000)
    where = registry.get(location).headers["Location"]
    refused(registry.patch(location, CONTENT[kept:]), 416, "RANGE_INVALID")
    response = registry.patch(where, CONTENT[kept : kept + 1000], kept)
    assert response.status_code == 202, response.text
    final = registry.finish(response.headers["Location"], blob.digest, CONTENT[kept + 1000 :])
    created(registry, name, blob, final)


@pytest.mark.parametrize("kept", [0, 1, 300_000])
def test_a_client_that_goes_in_the_middle_of_the_closing_request(
    registry: Registry, kept: int
) -> None:
    """Even if what arrived happens to be what the digest names."""
    name, blob = a_name(), Blob(CONTENT[:kept])
    location = registry.start(name)
    with connect(registry.url) as connection:
        target = with_query(location, digest=blob.digest)
        head = request_head("PUT", target, Content_Length=kept + 10)
        connection.sendall(head + CONTENT[:kept])
    held = settled(registry, location, kept)
    assert held == kept or (registry.balancer and held < kept)
    assert registry.ask("HEAD", path(name, blob.digest)).status_code == 404
    where = registry.get(location).headers["Location"]
    created(registry, name, blob, registry.finish(where, blob.digest, blob.data[held:]))


def test_a_client_that_goes_in_the_middle_of_a_single_post(registry: Registry) -> None:
    name, blob = a_name(), Blob(CONTENT[:5000])
    with registry.nothing_stored():
        with connect(registry.url) as connection:
            target = f"/v2/{name}/blobs/uploads/?digest={blob.digest}"
            connection.sendall(request_head("POST", target, Content_Length=6000) + blob.data)
            assert registry.get("/v2/").status_code == 200
        removed(registry, name)
    assert registry.ask("HEAD", path(name, blob.digest)).status_code == 404


def offset_of(location: str) -> int:
    """What the token says, for a Range cannot tell none from one byte."""
    (token,) = parse_qs(urlsplit(location).query)["_state"]
    offset: int = json.loads(base64.urlsafe_b64decode(token)[32:])["Offset"]
    return offset


def settled(registry: Registry, location: str, expected: int) -> int:
    """The size of an upload once the worker that received it has noticed that its client is gone.

    A balancer need not pass on all that the client sent before it went: then the size that stays.
    """
    deadline = time.monotonic() + 10
    last, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        size = offset_of(registry.get(location).headers["Location"])
        if size == expected or (registry.balancer and time.monotonic() > since + 1):
            return size
        if size != last:
            last, since = size, time.monotonic()
        time.sleep(0.02)
    return size


def began(registry: Registry, name: str) -> None:
    """Wait until the data of a repository's one upload begin."""
    assert registry.root is not None
    uploads = registry.root / "docker/registry/v2/repositories" / name / "_uploads"
    deadline = time.monotonic() + 10
    while not list(uploads.glob("*/data")):
        assert time.monotonic() < deadline, "no node began to write"
        time.sleep(0.02)


def removed(registry: Registry, name: str) -> None:
    """Wait until a repository has no uploads."""
    if registry.root is None:
        return
    uploads = registry.root / "docker/registry/v2/repositories" / name / "_uploads"
    deadline = time.monotonic() + 10
    while uploads.exists() and list(uploads.iterdir()):
        assert time.monotonic() < deadline, "the upload of a client that is gone was not removed"
        time.sleep(0.02)
