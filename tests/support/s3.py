"""S3 servers for tests, as what a client of them has to know.

`ceph.ceph_gateway()` is the real thing; `rclone_server()` is a store with gaps: no conditional
writes, no part copy, ranges answered 200, and no key that is the prefix of another.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
from botocore.config import Config

from tests.support.engines import program
from tests.support.servers import free_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

START_TIMEOUT = 20.0
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class S3Store:
    """An S3 server that answers at `endpoint`, and keys that may do all there. `ca` is for https."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    ca: Path | None = None
    region: str = "us-east-1"

    def at(self, endpoint: str, *, ca: Path | None = None) -> S3Store:
        """The same server by another way, such as a proxy."""
        return replace(self, endpoint=endpoint, ca=ca)

    def of(self, access_key: str, secret_key: str) -> S3Store:
        """The same server with other keys."""
        return replace(self, access_key=access_key, secret_key=secret_key)

    def client(self) -> S3Client:
        """The one client of this process for this store. Thread-safe; it does not repeat requests."""
        return _client(self)

    def bucket(self, stem: str = "test") -> str:
        """A fresh, empty bucket."""
        name = f"{stem}-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Every object below a prefix, with its size."""
        pages = self.client().get_paginator("list_objects_v2")
        return {
            entry["Key"]: entry["Size"]
            for page in pages.paginate(Bucket=bucket, Prefix=prefix)
            for entry in page.get("Contents", [])
        }

    def unfinished(self, bucket: str) -> list[tuple[str, str]]:
        """Key and upload id of every multipart upload that is neither completed nor aborted."""
        pages = self.client().get_paginator("list_multipart_uploads")
        try:
            return [
                (upload["Key"], upload["UploadId"])
                for page in pages.paginate(Bucket=bucket)
                for upload in page.get("Uploads", [])
            ]
        except self.client().exceptions.NoSuchUpload:
            return []  # which is what rclone says where there are none

    def remove_bucket(self, bucket: str) -> None:
        """With all that is in it, which gives its memory back."""
        client = self.client()
        for key, upload in self.unfinished(bucket):
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        keys = list(self.keys(bucket))
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
        client.delete_bucket(Bucket=bucket)

    @contextlib.contextmanager
    def fresh(self, stem: str = "test") -> Iterator[str]:
        """A bucket for the time of a block."""
        bucket = self.bucket(stem)
        try:
            yield bucket
        finally:
            self.remove_bucket(bucket)

    def parameters(self, bucket: str, **more: Any) -> dict[str, Any]:
        """The section `storage.s3` of a configuration that uses this bucket."""
        return {
            "bucket": bucket,
            "region": self.region,
            "regionendpoint": self.endpoint,
            "forcepathstyle": True,
            "accesskey": self.access_key,
            "secretkey": self.secret_key,
            **({"cabundle": str(self.ca)} if self.ca else {}),
            **more,
        }


def a_secret() -> str:
    return secrets.token_hex(20)


@functools.cache
def _client(store: S3Store) -> S3Client:
    # No session of one's own: `boto3.client` would read the machine's profile into the default one.
    session = boto3.session.Session(
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name=store.region,
    )
    return session.client(
        "s3",
        endpoint_url=store.endpoint,
        verify=str(store.ca) if store.ca else None,
        config=Config(
            s3={"addressing_style": "path", "payload_signing_enabled": False},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            read_timeout=30,
            connect_timeout=5,
            max_pool_connections=32,
        ),
    )


@contextlib.contextmanager
def rclone_server(directory: Path) -> Iterator[S3Store]:
    """`rclone serve s3` on an empty directory below `directory`."""
    content = directory / "buckets"
    content.mkdir()
    config = directory / "rclone.conf"
    config.touch()
    port = free_port()
    store = S3Store(
        name="rclone",
        endpoint=f"http://127.0.0.1:{port}",
        access_key="holdfast",
        secret_key=a_secret(),
    )
    command = [
        *(program("setpriv"), "--pdeathsig", "KILL", "--"),
        *(program("rclone"), "serve", "s3", "--config", str(config)),
        *("--addr", f"127.0.0.1:{port}", "--cache-dir", str(directory / "cache")),
        *("--auth-key", f"{store.access_key},{store.secret_key}", str(content)),
    ]
    log = directory / "rclone.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        await_answer(store.endpoint, process, [log])
        yield store
    finally:
        process.kill()
        process.wait(10)


def await_answer(
    url: str, process: subprocess.Popen[bytes], logs: list[Path], timeout: float = START_TIMEOUT
) -> None:
    """Return once a server answers a GET, whatever it says."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, timeout=2)
            return
        time.sleep(0.02)
    printed = "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())
    raise AssertionError(f"{url} does not answer:\n{printed}")
