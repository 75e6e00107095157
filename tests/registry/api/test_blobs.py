"""end-2 and end-10: blobs, ranges of them, conditions, deletion."""

from __future__ import annotations

import pytest

from storage.model import mediatype
from tests.support.registry import Blob, Registry, a_name, digest_of, refused, some_bytes

ABSENT = digest_of(b"absent")


def path(name: str, digest: str) -> str:
    return f"/v2/{name}/blobs/{digest}"


@pytest.fixture(scope="module")
def name() -> str:
    return a_name("blobs")


@pytest.fixture
def blob(registry: Registry, name: str) -> Blob:
    blob = Blob(bytes(range(256)) * 8)
    if registry.ask("HEAD", path(name, blob.digest)).status_code == 404:
        registry.push_blob(name, blob)
    return blob


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a_blob_comes_back(registry: Registry, method: str, algorithm: str, size: int) -> None:
    name = a_name()
    blob = registry.push_blob(name, Blob(some_bytes(size), algorithm=algorithm))
    for response in registry.everywhere(method, path(name, blob.digest)):
        assert response.status_code == 200
        assert response.content == (blob.data if method == "GET" else b"")
        assert response.headers["Content-Length"] == str(size)
        assert response.headers["Docker-Content-Digest"] == blob.digest
        assert response.headers["ETag"] == f'"{blob.digest}"'
        assert response.headers["Content-Type"] == mediatype.BLOB
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Cache-Control"] == "max-age=31536000"
        assert response.headers["Content-Disposition"] == "attachment"


def test_the_colon_may_come_encoded(registry: Registry, name: str, blob: Blob) -> None:
    assert registry.get(path(name, blob.digest.replace(":", "%3A"))).content == blob.data


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_absent_blob(registry: Registry, name: str, blob: Blob, method: str) -> None:
    for repository in (name, a_name()):
        response = registry.ask(method, path(repository, ABSENT))
        assert response.status_code == 404
        if method == "HEAD":
            assert response.content == b""
            assert int(response.headers["Content-Length"]) > 0
        else:
            refused(response, 404, "BLOB_UNKNOWN")
            assert response.json()["errors"][0]["detail"] == ABSENT


def test_a_blob_of_another_repository_is_absent(registry: Registry, name: str, blob: Blob) -> None:
    refused(registry.get(path(a_name(), blob.digest)), 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=500-1499", 500, 1500),
        ("bytes=0-0", 0, 1),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=-5000", 0, 2048),
        ("bytes=2000-5000", 2000, 2048),
        ("bytes=2047-2047", 2047, 2048),
        ("bytes=0-9999999999999999999", 0, 2048),
    ],
)
def test_one_range(
    registry: Registry, name: str, blob: Blob, header: str, start: int, end: int
) -> None:
    response = registry.get(path(name, blob.digest), headers={"Range": header})
    assert response.status_code == 206
    assert response.content == blob.data[start:end]
    assert response.headers["Content-Length"] == str(end - start)
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    assert response.headers["Docker-Content-Digest"] == blob.digest


@pytest.mark.parametrize("header", ["bytes=500-0", "bytes=2048-", "bytes=5000-10000", "bytes=-0"])
def test_a_range_that_is_not_there(registry: Registry, name: str, blob: Blob, header: str) -> None:
    response = registry.get(path(name, blob.digest), headers={"Range": header})
    refused(response, 416, "RANGE_INVALID")
    assert response.headers["Content-Range"] == "bytes */2048"


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,5-9", "bytes=" + ",".join(["0-"] * 3000), "bytes=", "bytes=a-b", "lines=0-5", "x"],
)
def test_several_ranges_and_other_forms_come_back_whole(
    registry: Registry, name: str, blob: Blob, header: str
) -> None:
    response = registry.get(path(name, blob.digest), headers={"Range": header})
    assert response.status_code == 200
    assert response.content == blob.data


def test_if_range(registry: Registry, name: str, blob: Blob) -> None:
    headers = {"Range": "bytes=0-9"}
    for condition, status in (
        (f'"{blob.digest}"', 206),
        (f'"{ABSENT}"', 200),
        (f'W/"{blob.digest}"', 200),
        ("Mon, 23 Nov 2026 00:00:00 GMT", 200),
    ):
        response = registry.get(path(name, blob.digest), headers={**headers, "If-Range": condition})
        assert response.status_code == status, condition
        assert response.content == (blob.data[:10] if status == 206 else blob.data)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ['"{}"', "{}", 'W/"{}"', '"other", "{}"', "*"])
def test_if_none_match(registry: Registry, name: str, blob: Blob, method: str, form: str) -> None:
    condition = {"If-None-Match": form.format(blob.digest)}
    response = registry.ask(method, path(name, blob.digest), headers=condition)
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == f'"{blob.digest}"'
    assert response.headers["Docker-Content-Digest"] == blob.digest


def test_if_none_match_of_something_else(registry: Registry, name: str, blob: Blob) -> None:
    response = registry.get(path(name, blob.digest), headers={"If-None-Match": f'"{ABSENT}", "x"'})
    assert response.content == blob.data
    absent = registry.get(path(name, ABSENT), headers={"If-None-Match": "*"})
    refused(absent, 404, "BLOB_UNKNOWN")


def test_deletion(registry: Registry) -> None:
    one, two = a_name(), a_name()
    blob = Blob(some_bytes())
    for repository in (one, two):
        registry.push_blob(repository, blob)
    response = registry.ask("DELETE", path(one, blob.digest))
    assert (response.status_code, response.content) == (202, b"")
    for answer in registry.everywhere("HEAD", path(one, blob.digest)):
        assert answer.status_code == 404
    for answer in registry.everywhere("GET", path(two, blob.digest)):
        assert answer.content == blob.data
    refused(registry.ask("DELETE", path(one, blob.digest)), 404, "BLOB_UNKNOWN")
    registry.push_blob(one, blob)
    assert registry.get(path(one, blob.digest)).content == blob.data


def test_a_connection_is_good_for_more_after_every_kind_of_answer(
    registry: Registry, name: str, blob: Blob
) -> None:
    where = path(name, blob.digest)
    for _ in range(3):
        assert registry.get(where).status_code == 200
        assert registry.ask("HEAD", where).status_code == 200
        assert registry.get(where, headers={"Range": "bytes=5-9"}).content == blob.data[5:10]
        assert registry.get(where, headers={"Range": "bytes=9999-"}).status_code == 416
        assert registry.get(where, headers={"If-None-Match": "*"}).status_code == 304
        assert registry.ask("HEAD", path(name, ABSENT)).status_code == 404
        assert registry.ask("POST", where).status_code == 405
