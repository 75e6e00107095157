"""The observing wrapper: all promises still hold, and each operation is reported once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from storage.driver import Child, Driver
from storage.driver_errors import Busy, Conflict, InvalidKey, ObjectNotFound, Unavailable
from storage.drivers.memory import MemoryDriver
from storage.drivers.observed import ObservedDriver
from tests.storage.driver_contract import DriverContract

Records = list[tuple[str, str]]


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []

    def __call__(self, operation: str, result: str, seconds: float) -> None:
        self.calls.append((operation, result, seconds))

    def take(self) -> Records:
        taken = [(operation, result) for operation, result, _ in self.calls]
        assert all(seconds >= 0 for _, _, seconds in self.calls)
        self.calls.clear()
        return taken


class TestObservedDriver(DriverContract):
    @pytest.fixture
    def driver(self) -> Driver:
        return ObservedDriver(MemoryDriver(), Recorder())


@pytest.fixture
def record() -> Recorder:
    return Recorder()


@pytest.fixture
def driver(record: Recorder) -> ObservedDriver:
    return ObservedDriver(MemoryDriver(), record)


SIMPLE: list[tuple[str, Callable[[Driver], object]]] = [
    ("stat", lambda driver: driver.stat("a/b")),
    ("read", lambda driver: driver.read("a/b", offset=1, length=1)),
    ("open", lambda driver: driver.open("a/b")),
    ("write", lambda driver: driver.write("a/b", b"x")),
    ("swap", lambda driver: driver.swap("a/b", b"x", expected=b"data")),
    ("writer", lambda driver: driver.writer("new", create=True)),
    ("list", lambda driver: list(driver.list(""))),
    ("walk", lambda driver: list(driver.walk(""))),
    ("walk", lambda driver: driver.leaves("a", "b")),
    ("list", lambda driver: driver.names("a")),
    ("read", lambda driver: driver.read_leaves("a", ["x"], "b", length=1)),
    ("delete", lambda driver: driver.delete("a/b")),
    ("delete_many", lambda driver: driver.delete_many(["a/b"])),
    ("delete_tree", lambda driver: driver.delete_tree("a")),
    ("prune", lambda driver: driver.prune("a")),
    ("presign", lambda driver: driver.presign("a/b", lifetime=60)),
    ("local_path", lambda driver: driver.local_path("a/b")),
    ("check", lambda driver: driver.check()),
]


@pytest.mark.parametrize(("operation", "use"), SIMPLE, ids=[name for name, _ in SIMPLE])
def test_an_operation_is_reported_once(
    driver: ObservedDriver, record: Recorder, operation: str, use: Callable[[Driver], object]
) -> None:
    driver.write("a/b", b"data")
    record.take()
    use(driver)
    assert record.take() == [(operation, "ok")]


def test_the_name_is_that_of_the_driver_inside(driver: ObservedDriver) -> None:
    assert driver.name == MemoryDriver().name


def test_a_growing_object_from_its_first_byte_to_its_publication(
    driver: ObservedDriver, record: Recorder
) -> None:
    with driver.writer("staging", create=True) as writer:
        writer.append([b"da", b"ta"])
        writer.sync()
        assert writer.size == 4
    assert driver.stat_growing("staging").size == 4
    reader = driver.open_growing("staging")
    assert reader.read_at(1, 2) == b"at"
    reader.close()
    with driver.writer("staging", create=False) as writer:
        writer.publish("blob")
    operations = [operation for operation, _ in record.take()]
    assert operations == [
        *("writer", "append", "sync", "stat_growing", "open_growing", "read_at"),
        *("writer", "publish"),
    ]
    assert driver.read("blob") == b"data"


def test_what_is_absent_is_not_an_error(driver: ObservedDriver, record: Recorder) -> None:
    with pytest.raises(ObjectNotFound):
        driver.stat("absent")
    with pytest.raises(ObjectNotFound):
        driver.open("absent")
    assert record.take() == [("stat", "not_found"), ("open", "not_found")]


def test_refusals_are_not_errors(driver: ObservedDriver, record: Recorder) -> None:
    driver.write("key", b"data")
    with pytest.raises(Conflict):
        driver.swap("key", b"x", expected=b"other")
    with driver.writer("growing", create=True), pytest.raises(Busy):
        driver.writer("growing", create=False)
    assert {result for _, result in record.take()} == {"ok"}


def test_an_invalid_key_is_an_error_at_the_call(driver: ObservedDriver, record: Recorder) -> None:
    for use in (driver.list, driver.walk, driver.stat):
        with pytest.raises(InvalidKey):
            use("../a")
    assert record.take() == [("list", "error"), ("walk", "error"), ("stat", "error")]


class Failing(MemoryDriver):
    """Lists one name, then the storage goes away."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        yield Child("a", is_prefix=False)
        raise Unavailable("gone")

    def check(self) -> None:
        raise Unavailable("gone")


def test_failures_are_errors_and_pass_through(record: Recorder) -> None:
    driver = ObservedDriver(Failing(), record)
    with pytest.raises(Unavailable):
        driver.check()
    names = driver.list("")
    assert next(names).name == "a"
    assert record.take() == [("check", "error")]
    with pytest.raises(Unavailable):
        next(names)
    assert record.take() == [("list", "error")]


def test_the_time_of_a_listing_is_not_that_of_its_consumer(
    driver: ObservedDriver, record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 10))
    driver.write("a", b"")
    driver.write("b", b"")
    record.take()
    monkeypatch.setattr("storage.drivers.observed.perf_counter", lambda: next(clock))
    list(driver.list(""))
    # Reads of the clock: around the call, around each of two steps, around the end.
    assert record.calls == [("list", "ok", 40)]


def test_an_abandoned_listing_is_reported(driver: ObservedDriver, record: Recorder) -> None:
    driver.write("a", b"")
    driver.write("b", b"")
    record.take()
    names = driver.list("")
    next(names)
    del names
    assert record.take() == [("list", "ok")]
