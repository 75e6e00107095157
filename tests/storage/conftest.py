"""A store over each driver; a bucket of a real one, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.driver import Driver
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.model.reference import RepositoryName
from storage.repository import Repository, Store
from tests.support.s3 import S3Store
from tests.support.s3proxy import S3Proxy, s3_proxy


@pytest.fixture(params=["memory", "filesystem"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    if request.param == "memory":
        return MemoryDriver()
    driver = FilesystemDriver(tmp_path)
    driver.prepare()
    return driver


@pytest.fixture
def store(driver: Driver) -> Store:
    return Store(driver)


@pytest.fixture
def repository(store: Store) -> Repository:
    return store.repository(RepositoryName("team/app"))


@pytest.fixture
def bucket(rgw: S3Store) -> Iterator[str]:
    with rgw.fresh() as bucket:
        yield bucket


@pytest.fixture
def proxy(rgw: S3Store) -> Iterator[S3Proxy]:
    with s3_proxy(rgw) as proxy:
        yield proxy
