"""The proxy that the tests of S3 rest on does what it says, in front of a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ResponseStreamingError,
)

from tests.support.s3 import S3Store
from tests.support.s3proxy import (
    Answer,
    CutAnswer,
    Delay,
    Hold,
    LoseAnswer,
    ResetRequest,
    S3Proxy,
    s3_proxy,
)

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def proxy(rgw: S3Store) -> Iterator[S3Proxy]:
    with s3_proxy(rgw) as running:
        yield running


@pytest.fixture
def bucket(rgw: S3Store) -> Iterator[str]:
    with rgw.fresh() as name:
        yield name


def get(proxy: S3Proxy, bucket: str, key: str) -> bytes:
    return proxy.store.client().get_object(Bucket=bucket, Key=key)["Body"].read()


def put(proxy: S3Proxy, bucket: str, key: str, data: bytes = CONTENT) -> None:
    proxy.store.client().put_object(Bucket=bucket, Key=key, Body=data)


def test_what_is_asked_goes_through_and_is_counted(proxy: S3Proxy, bucket: str) -> None:
    client = proxy.store.client()
    put(proxy, bucket, "a/b c+d%")
    assert get(proxy, bucket, "a/b c+d%") == CONTENT
    assert client.head_object(Bucket=bucket, Key="a/b c+d%")["ContentLength"] == len(CONTENT)
    assert proxy.store.keys(bucket) == {"a/b c+d%": len(CONTENT)}
    put(proxy, bucket, "plain")
    source = f"{bucket}/plain"
    client.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    upload = client.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    part = client.upload_part(
        Bucket=bucket, Key="big", UploadId=upload, PartNumber=1, Body=CONTENT * 5
    )
    copied = client.upload_part_copy(
        Bucket=bucket, Key="big", UploadId=upload, PartNumber=2, CopySource=source
    )["CopyPartResult"]
    assert len(client.list_parts(Bucket=bucket, Key="big", UploadId=upload)["Parts"]) == 2
    assert proxy.store.unfinished(bucket) == [("big", upload)]
    client.complete_multipart_upload(
        Bucket=bucket,
        Key="big",
        UploadId=upload,
        MultipartUpload={
            "Parts": [
                {"PartNumber": 1, "ETag": part["ETag"]},
                {"PartNumber": 2, "ETag": copied["ETag"]},
            ]
        },
    )
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}]})
    client.delete_object(Bucket=bucket, Key="big")
    assert proxy.counts() == {
        "PutObject": 2,
        "GetObject": 1,
        "HeadObject": 1,
        "ListObjectsV2": 1,
        "CopyObject": 1,
        "CreateMultipartUpload": 1,
        "UploadPart": 1,
        "UploadPartCopy": 1,
        "ListParts": 1,
        "ListMultipartUploads": 1,
        "CompleteMultipartUpload": 1,
        "DeleteObjects": 1,
        "DeleteObject": 1,
    }
    assert {call.bucket for call in proxy.calls} == {bucket}
    assert proxy.calls[0].key == "a/b c+d%"
    proxy.forget()
    assert proxy.counts() == {}


def test_a_fault_meets_whom_it_is_meant_for(proxy: S3Proxy, bucket: str) -> None:
    proxy.inject(Answer(503, "SlowDown"), operation="PutObject", key="^a", times=2, skip=1)
    put(proxy, bucket, "a")
    put(proxy, bucket, "b")
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            put(proxy, bucket, "a")
    assert get(proxy, bucket, "a") == CONTENT
    put(proxy, bucket, "a")
    proxy.inject(Answer(403, "AccessDenied"), times=None)
    for _ in range(3):
        with pytest.raises(ClientError, match="AccessDenied"):
            get(proxy, bucket, "a")
    proxy.heal()
    assert get(proxy, bucket, "a") == CONTENT


def test_a_failure_told_with_status_200(proxy: S3Proxy, bucket: str) -> None:
    put(proxy, bucket, "a")
    proxy.inject(Answer(200, "InternalError"), operation="CopyObject")
    with pytest.raises(ClientError, match="InternalError"):
        proxy.store.client().copy_object(
            Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"}
        )
    assert set(proxy.store.keys(bucket)) == {"a"}


def test_a_lost_answer_is_a_request_done(proxy: S3Proxy, bucket: str) -> None:
    proxy.inject(LoseAnswer(), operation="PutObject")
    with pytest.raises(BotoCoreError):
        put(proxy, bucket, "a")
    assert proxy.store.keys(bucket) == {"a": len(CONTENT)}


@pytest.mark.parametrize("after", [0, 100_000])
def test_a_request_cut_off_is_not_done(proxy: S3Proxy, bucket: str, after: int) -> None:
    proxy.inject(ResetRequest(after), operation="PutObject")
    with pytest.raises(ConnectionClosedError):
        put(proxy, bucket, "a", CONTENT * 20)
    assert proxy.store.keys(bucket) == {}


@pytest.mark.parametrize("reset", [True, False])
def test_an_answer_cut_off(proxy: S3Proxy, bucket: str, *, reset: bool) -> None:
    put(proxy, bucket, "a", CONTENT * 8)
    proxy.inject(CutAnswer(100_000, reset=reset), operation="GetObject")
    body = proxy.store.client().get_object(Bucket=bucket, Key="a")["Body"]
    # The last bytes before a reset may be lost with it.
    assert body.read(1000) == CONTENT[:1000]
    with pytest.raises((BotoCoreError, ResponseStreamingError)):
        body.read()
    assert len(get(proxy, bucket, "a")) == 8 * len(CONTENT)


def test_a_delay(proxy: S3Proxy, bucket: str) -> None:
    proxy.inject(Delay(0.2), operation="PutObject")
    begun = time.monotonic()
    put(proxy, bucket, "a")
    assert time.monotonic() - begun >= 0.2


def test_a_request_held_until_told(proxy: S3Proxy, bucket: str) -> None:
    hold = Hold()
    proxy.inject(hold, operation="PutObject", key="held")
    done = threading.Event()

    def held() -> None:
        put(proxy, bucket, "held")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(held)
        assert hold.reached.wait(10)
        put(proxy, bucket, "other")
        assert not done.is_set()
        hold.go_on.set()
        future.result(10)
    assert set(proxy.store.keys(bucket)) == {"held", "other"}
