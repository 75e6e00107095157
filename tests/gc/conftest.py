"""Storages for the collector's tests: each kind that it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from tests.gc.shop import Shop
from tests.support.s3 import S3Store

STORAGES = ["inmemory", "filesystem", "rgw"]


@pytest.fixture(params=STORAGES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """On every storage; a test that asks for others names them."""
    if request.param == "inmemory":
        yield Shop(MemoryDriver())
    elif request.param == "filesystem":
        driver = FilesystemDriver(tmp_path / "storage")
        driver.prepare()
        yield Shop(driver)
    else:
        yield from on_s3(request.getfixturevalue(request.param))


@pytest.fixture
def plain(tmp_path: Path) -> Shop:
    """On a filesystem."""
    driver = FilesystemDriver(tmp_path / "storage")
    driver.prepare()
    return Shop(driver)


def on_s3(store: S3Store) -> Iterator[Shop]:
    with store.fresh() as bucket:
        made = S3Driver(S3Settings(**store.parameters(bucket)))
        yield Shop(made)
        made.close()
