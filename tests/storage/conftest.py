"""A store over each driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.driver import Driver
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.model.reference import RepositoryName
from storage.repository import Repository, Store


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
