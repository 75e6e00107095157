"""A registry on S3 when the store or the network to it fails: what its clients see, and what is kept.

Every request between the registry and a real server goes through a proxy that lets it fail.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.clients import wait_for
from tests.support.registry import Blob, Registry, a_name, image, refused
from tests.support.s3 import S3Store
from tests.support.s3proxy import (
    Alter,
    Answer,
    CutAnswer,
    Fault,
    Hold,
    LoseAnswer,
    ResetRequest,
    S3Proxy,
    s3_proxy,
)
from tests.support.servers import Server, holdfast

LAYER = os.urandom(20 * 1024 * 1024)  # three parts
SMALL = os.urandom(100_000)
RETRIES = 30.0
"""Seconds in which the registry has given up by any account."""


@dataclass
class Scene:
    """A registry, the proxy between it and its bucket, and the bucket as it is without the proxy."""

    registry: Registry
    server: Server
    proxy: S3Proxy
    store: S3Store
    bucket: str

    def fail(self, fault: Fault, **which: Any) -> None:
        self.proxy.inject(fault, **which)

    def logged(self, pattern: str) -> list[str]:
        lines = [json.loads(line) for line in self.server.output().splitlines() if line[:1] == "{"]
        return [line["msg"] for line in lines if re.search(pattern, line["msg"])]


@contextmanager
def scene(
    directory: Path, store: S3Store, bucket: str, *, uploadmemory: int = 2**29, **sections: Any
) -> Iterator[Scene]:
    with s3_proxy(store) as proxy:
        more = {"chunksize": 8 * 1024 * 1024, "uploadmemory": uploadmemory}
        storage = {"s3": proxy.store.parameters(bucket, **more)}
        config = {"storage": {**storage, "redirect": {"disable": True}}, **sections}
        with holdfast(directory, driver="s3", workers=1, config=config) as server:
            registry = Registry(server.url)
            try:
                yield Scene(registry, server, proxy, store, bucket)
            finally:
                registry.close()
                proxy.heal()
        assert "Traceback" not in server.output(), server.output()


@pytest.fixture(scope="module")
def bucket(rgw: S3Store) -> Iterator[str]:
    with rgw.fresh() as name:
        yield name


@pytest.fixture(scope="module")
def shared(rgw: S3Store, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("registry"), rgw, bucket) as running:
        yield running


@pytest.fixture
def on(shared: Scene) -> Iterator[Scene]:
    yield shared
    shared.proxy.heal()
    shared.proxy.forget()


def push_by_patch(registry: Registry, name: str, blob: Blob, pieces: int = 1) -> httpx.Response:
    """As docker does it, in so many requests."""
    location = registry.start(name)
    size = -(-len(blob.data) // pieces)
    for start in range(0, len(blob.data), size):
        answer = registry.patch(location, blob.data[start : start + size])
        if answer.status_code != 202:
            return answer
        location = answer.headers["Location"]
    return registry.finish(location, blob.digest)


def fresh_layer(size: int = len(LAYER)) -> Blob:
    """Of which the store has nothing yet."""
    return Blob(os.urandom(16) + LAYER[16:size])


@pytest.mark.parametrize("skip", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("fault", [Answer(503, "SlowDown"), Answer(500, "InternalError")])
def test_one_failure_of_the_store_is_seen_by_nobody(on: Scene, fault: Fault, skip: int) -> None:
    name = a_name()
    on.fail(fault, skip=skip)
    pushed = on.registry.push_image(name, "1", SMALL)
    on.fail(fault, skip=skip)
    assert on.registry.get(f"/v2/{name}/manifests/1").content == pushed.content
    on.fail(fault, skip=skip)
    assert push_by_patch(on.registry, name, fresh_layer(), pieces=2).status_code == 201


def test_a_lost_connection_is_seen_by_nobody(on: Scene) -> None:
    name, blob = a_name(), fresh_layer()
    on.fail(ResetRequest(1_000_000), operation="UploadPart", skip=1)
    on.fail(LoseAnswer(), operation="UploadPart")
    on.fail(LoseAnswer(), operation="CompleteMultipartUpload")
    on.fail(LoseAnswer(), operation="PutObject")
    assert push_by_patch(on.registry, name, blob).status_code == 201
    on.fail(CutAnswer(9_000_000), operation="GetObject", key="/data$")
    on.fail(CutAnswer(1_000_000, reset=False), operation="GetObject", key="/data$")
    answer = on.registry.get(f"/v2/{name}/blobs/{blob.digest}")
    assert answer.status_code == 200
    assert answer.content == blob.data
    assert on.proxy.unmet == []


REFUSALS = [
    (403, "AccessDenied"),
    (403, "ExpiredToken"),
    (403, "RequestTimeTooSkewed"),
    (403, "SignatureDoesNotMatch"),
    (404, "NoSuchBucket"),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
def test_a_refusal_is_no_absence_and_no_question_of_who_asks(
    on: Scene, status: int, code: str
) -> None:
    name = a_name()
    blob = Blob(SMALL)
    pushed = on.registry.push_image(name, "1", SMALL)
    other = image(SMALL)
    on.registry.push_blob(name, other.blobs[0])
    location = on.registry.start(name)
    on.fail(Answer(status, code), times=None)
    answers = [
        on.registry.get(f"/v2/{name}/manifests/1"),
        on.registry.get(f"/v2/{name}/manifests/never-heard-of"),
        on.registry.get(f"/v2/{name}/blobs/sha256:{'0' * 64}"),
        on.registry.get(f"/v2/{name}/tags/list"),
        on.registry.patch(location, SMALL),
        on.registry.put_manifest(name, "2", other),
        on.registry.ask("DELETE", f"/v2/{name}/manifests/{pushed.digest}"),
    ]
    for answer in answers:
        refused(answer, 503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0
        assert on.bucket not in answer.text
    assert on.registry.ask("HEAD", f"/v2/{name}/manifests/1").status_code == 503
    assert on.logged(rf"(Get|Head)Object s3://{on.bucket}/docker/registry/v2/repositories/{name}/")
    assert on.logged(rf"{code}|\b{status}\b")
    on.proxy.heal()
    assert on.registry.get(f"/v2/{name}/manifests/1").content == pushed.content
    assert on.registry.get(f"/v2/{name}/blobs/{blob.digest}").content == blob.data


@pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
def test_a_store_that_stays_busy_is_a_503_and_nothing_is_lost(on: Scene, code: str) -> None:
    name, blob = a_name(), fresh_layer(100_000)
    location = on.registry.start(name)
    on.fail(Answer(503, code), times=None)
    refused(on.registry.get(f"/v2/{name}/manifests/1"), 503, "UNAVAILABLE")
    answer = on.registry.patch(location, blob.data)
    refused(answer, 503, "UNAVAILABLE")
    assert answer.headers["Retry-After"]
    on.proxy.heal()
    assert on.registry.patch(location, blob.data).status_code == 202
    assert on.logged(f"PutObject s3://{on.bucket}/|ListObjectsV2 s3://{on.bucket}/")


@pytest.mark.parametrize("operation", ["CompleteMultipartUpload", "CopyObject", "UploadPartCopy"])
def test_a_failure_told_with_status_200_is_a_failure(on: Scene, operation: str) -> None:
    """S3 may begin its answer before it knows (API reference of CompleteMultipartUpload, CopyObject)."""
    name = a_name()
    size = 100_000 if operation == "CopyObject" else len(LAYER)
    seen = fresh_layer(size)
    on.fail(Answer(200, "InternalError"), operation=operation)
    assert push_by_patch(on.registry, name, seen).status_code == 201
    assert on.registry.get(f"/v2/{name}/blobs/{seen.digest}").content == seen.data
    lost = fresh_layer(size)
    on.fail(Answer(200, "InternalError"), operation=operation, times=None)
    answer = push_by_patch(on.registry, name, lost)
    on.proxy.heal()
    if operation in on.proxy.counts():
        refused(answer, 503, "UNAVAILABLE")
        assert on.registry.get(f"/v2/{name}/blobs/{lost.digest}").status_code == 404
    else:
        assert answer.status_code == 201


def test_what_a_store_does_not_find_yet_is_not_remembered_as_absent(on: Scene) -> None:
    name, blob = a_name(), fresh_layer(1000)
    on.registry.push_blob(name, blob)
    on.fail(Answer(404, "NoSuchKey"), operation="GetObject", times=None)
    on.fail(Answer(404, "NoSuchKey"), operation="HeadObject", times=None)
    path = f"/v2/{name}/manifests/1"
    pushed = image(SMALL)
    assert on.registry.get(path).status_code == 404
    on.proxy.heal()
    on.registry.push(name, "1", pushed)
    assert on.registry.get(path).content == pushed.content
    assert on.registry.get(f"/v2/{name}/blobs/{blob.digest}").content == blob.data


@pytest.fixture(scope="module")
def stranger(
    rgw: S3Store, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Another node on the same bucket, which has seen nothing of it yet."""
    with scene(tmp_path_factory.mktemp("stranger"), rgw, bucket) as running:
        yield running


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:-1],
        lambda body: body[:-1] + b" ",
        lambda body: body.replace(b"schemaVersion", b"schemaversion"),
        lambda body: b"",
        lambda body: b"<html>Blocked by your administrator</html>",
    ],
)
def test_a_body_that_was_changed_on_its_way_is_never_served(
    on: Scene, stranger: Scene, change: Callable[[bytes], bytes]
) -> None:
    name = a_name()
    pushed = on.registry.push_image(name, "1", SMALL)
    path, hexadecimal = f"/v2/{name}/manifests", pushed.digest.partition(":")[2]
    stranger.proxy.inject(Alter(change), key=f"{hexadecimal}/data", times=None)
    try:
        for reference in ("1", pushed.digest):
            refused(stranger.registry.get(f"{path}/{reference}"), 503, "UNAVAILABLE")
    finally:
        stranger.proxy.heal()
    assert stranger.registry.get(f"{path}/1").content == pushed.content


def test_an_upload_that_memory_has_no_room_for_is_told_to_come_again(
    rgw: S3Store, bucket: str, tmp_path: Path
) -> None:
    """While the store is slow with one upload, which fills the memory that all of them may have."""
    with scene(tmp_path, rgw, bucket, uploadmemory=8 * 1024 * 1024) as on:
        name, first, second = a_name(), fresh_layer(7_000_000), fresh_layer()
        slow, held = on.registry.start(name), Hold()
        upload = urlsplit(slow).path.rpartition("/")[2]
        on.fail(held, operation="PutObject", key=upload, times=None)
        with ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(on.registry.patch, slow, first.data)
            assert held.reached.wait(30)
            answer = on.registry.patch(on.registry.start(name), second.data)
            refused(answer, 429, "TOOMANYREQUESTS")
            assert int(answer.headers["Retry-After"]) > 0
            held.go_on.set()
            sent = pushing.result(60)
        assert on.registry.finish(sent.headers["Location"], first.digest).status_code == 201
        assert push_by_patch(on.registry, name, second).status_code == 201


def test_the_store_stops_answering_and_comes_back(
    rgw: S3Store, bucket: str, tmp_path: Path
) -> None:
    health = {"storagedriver": {"interval": "100ms", "threshold": 2}}
    limits = {"limits": {"storagetimeout": "1s"}}
    with scene(tmp_path, rgw, bucket, health=health, http=limits) as on:
        name = a_name()
        pushed = on.registry.push_image(name, "1", SMALL)

        def ready() -> bool:
            return on.registry.get("/readyz").status_code == 200

        wait_for(ready, "ready", RETRIES)
        on.fail(ResetRequest(), times=None)
        wait_for(lambda: not ready(), "no longer ready", RETRIES)
        assert on.registry.get("/healthz").status_code == 200
        refused(on.registry.get(f"/v2/{name}/manifests/1"), 503, "UNAVAILABLE")
        on.proxy.heal()
        wait_for(ready, "ready again", RETRIES)
        assert on.registry.get(f"/v2/{name}/manifests/1").content == pushed.content

        hold = Hold()
        on.fail(hold, operation="GetObject", key=f"{name}/_manifests/tags/1/", times=None)
        refused(on.registry.get(f"/v2/{name}/manifests/1"), 503, "UNAVAILABLE")
        assert hold.reached.is_set()
        on.proxy.heal()
        hold.go_on.set()
        assert on.registry.get(f"/v2/{name}/manifests/1").content == pushed.content


def test_a_client_is_redirected_anew_when_its_url_has_expired(
    rgw: S3Store, bucket: str, tmp_path: Path
) -> None:
    redirect = {"disable": False, "disableforagents": ["Old-Client"]}
    with scene(tmp_path, rgw, bucket) as on:
        name, blob = a_name(), fresh_layer(1000)
        on.registry.push_blob(name, blob)
        path = f"/v2/{name}/blobs/{blob.digest}"
        assert on.registry.get(path).status_code == 200
    storage = {"s3": rgw.parameters(bucket), "redirect": redirect}
    with holdfast(tmp_path, driver="s3", workers=1, config={"storage": storage}) as server:
        registry = Registry(server.url)
        first = registry.get(path)
        assert first.status_code == 307
        location = httpx.URL(first.headers["Location"])
        assert httpx.get(location).content == blob.data
        part = httpx.get(location, headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, blob.data[10:20])
        long_ago = location.copy_set_param("X-Amz-Date", "20200101T000000Z")
        assert httpx.get(long_ago).status_code == 403
        assert httpx.get(registry.get(path).headers["Location"]).content == blob.data
        assert registry.get(path, headers={"User-Agent": "old-client/1"}).content == blob.data
        registry.close()
