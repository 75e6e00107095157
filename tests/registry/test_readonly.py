"""A registry that is read-only starts, and is ready, on a storage that it may not write to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.readiness import READS
from storage import layout
from storage.driver_errors import Unavailable
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from storage.readable import check_readable
from tests.faults.mounts import mounted_readonly
from tests.gc.shop import Shop
from tests.support.ceph import Gateway
from tests.support.servers import Server, holdfast

MAINTENANCE = {"maintenance": {"readonly": {"enabled": True}}}
GET, LIST = ["s3:GetObject"], ["s3:ListBucket"]


@contextmanager
def serving(directory: Path, storage: dict[str, Any], driver: str) -> Iterator[Server]:
    with holdfast(directory, driver=driver, config={"storage": storage | MAINTENANCE}) as server:
        yield server


def serves(server: Server, tag: str, content: bytes) -> None:
    assert httpx.get(f"{server.url}/readyz").json()["storage"] == READS
    answer = httpx.get(f"{server.url}/v2/team/app/manifests/{tag}")
    assert (answer.status_code, answer.content) == (200, content)
    subject = answer.headers["Docker-Content-Digest"]
    assert httpx.get(f"{server.url}/v2/team/app/referrers/{subject}").status_code == 200
    assert httpx.get(f"{server.url}/v2/_catalog").json() == {"repositories": ["team/app"]}
    assert httpx.get(f"{server.url}/v2/team/app/tags/list").json()["tags"] == [tag]
    layer = json.loads(content)["layers"][0]["digest"]
    blob = httpx.get(f"{server.url}/v2/team/app/blobs/{layer}", follow_redirects=True)
    assert blob.content == b"layer"
    refused = httpx.post(f"{server.url}/v2/team/app/blobs/uploads/")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (405, "UNSUPPORTED")


def test_a_mount_that_is_read_only(tmp_path: Path) -> None:
    driver = FilesystemDriver(tmp_path / "written")
    driver.prepare()
    shop = Shop(driver)
    content = shop.content(shop.image("team/app", "1", b"layer"))
    with mounted_readonly(tmp_path / "written", tmp_path / "tree"):
        with serving(tmp_path, {}, "filesystem") as server:
            serves(server, "1", content)


def test_a_bucket_that_may_only_be_read(gateway: Gateway, tmp_path: Path) -> None:
    reader = gateway.user("reader")
    with gateway.store.fresh() as bucket:
        driver = S3Driver(S3Settings(**gateway.store.parameters(bucket)))
        shop = Shop(driver)
        content = shop.content(shop.image("team/app", "1", b"layer"))
        driver.close()
        allow = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/reader"]}}
        at = f"arn:aws:s3:::{bucket}"
        statements = [
            {**allow, "Action": GET, "Resource": [f"{at}/*"]},
            {**allow, "Action": LIST, "Resource": [at]},
        ]
        policy = {"Version": "2012-10-17", "Statement": statements}
        gateway.store.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        with serving(tmp_path, {"s3": reader.parameters(bucket)}, "s3") as server:
            serves(server, "1", content)


def test_where_nothing_is_mounted_it_is_not_ready(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "tree")
    driver = FilesystemDriver(tmp_path / "tree")
    driver.prepare(readonly=True)
    with pytest.raises(Unavailable, match="not mounted"):
        check_readable(driver)
    assert os.listdir(tmp_path / "tree") == []
    with pytest.raises(Unavailable):
        FilesystemDriver(tmp_path / "absent").prepare(readonly=True)


def test_a_tree_that_can_be_read() -> None:
    driver = MemoryDriver()
    driver.write(f"{layout.REPOSITORIES}/a/_layers/x", b"")
    check_readable(driver)
