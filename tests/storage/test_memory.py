"""The driver `inmemory`."""

from __future__ import annotations

import pytest

from storage.driver import Child, Driver
from storage.driver_errors import ObjectNotFound
from storage.drivers.memory import MemoryDriver
from tests.storage.driver_contract import DriverContract, grow


class TestMemoryDriver(DriverContract):
    @pytest.fixture
    def driver(self) -> Driver:
        return MemoryDriver()


def test_a_growing_object_is_not_a_finished_one() -> None:
    driver = MemoryDriver()
    grow(driver, "a/growing", b"data")
    with pytest.raises(ObjectNotFound):
        driver.stat("a/growing")
    assert list(driver.list("a")) == []
    assert list(driver.walk("")) == []


def test_a_key_may_be_a_prefix_of_others() -> None:
    driver = MemoryDriver()
    for key in ("a/b", "a", "b", "b/c"):
        driver.write(key, b"x")
    assert list(driver.list("")) == [Child("a", is_prefix=True), Child("b", is_prefix=True)]


def test_two_drivers_share_nothing() -> None:
    MemoryDriver().write("key", b"data")
    with pytest.raises(ObjectNotFound):
        MemoryDriver().stat("key")
