"""Last pulls are noted to the day, and cost the storage one small write for each tag."""

from __future__ import annotations

import pytest

from registry.last_pulls import DAY, LastPulls
from storage import layout
from storage.driver_errors import Unavailable
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

NAME, TAG = RepositoryName("a"), Tag("1")
KEY = layout.pulled(NAME, TAG)


class Counting(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.broken = False

    def write(self, key: str, data: bytes) -> None:
        if self.broken:
            raise Unavailable("not now")
        self.writes.append(key)
        super().write(key, data)


@pytest.fixture
def driver() -> Counting:
    return Counting()


def test_a_tag_is_written_once_a_day(driver: Counting) -> None:
    pulls = LastPulls(driver)
    for _ in range(3):
        pulls.note(NAME, TAG)
        pulls.write()
    assert driver.writes == [layout.PULLS_SINCE, KEY]


def test_a_pull_by_digest_has_a_mark_of_its_own(driver: Counting) -> None:
    digest = Digest.of(b"")
    pulls = LastPulls(driver)
    pulls.note(NAME, digest)
    pulls.write()
    assert driver.writes == [layout.PULLS_SINCE, layout.pulled_by_digest(NAME, digest)]


def test_workers_do_not_write_what_another_has_written(driver: Counting) -> None:
    for _ in range(2):
        pulls = LastPulls(driver)
        pulls.note(NAME, TAG)
        pulls.write()
    assert driver.writes.count(KEY) == 1


def test_the_next_day_it_is_written_again(driver: Counting) -> None:
    start = driver_time(driver)
    moment = [start]
    pulls = LastPulls(driver, lambda: moment[0])
    pulls.note(NAME, TAG)
    pulls.write()
    moment[0] = start + DAY
    pulls.note(NAME, TAG)
    pulls.write()
    assert driver.writes.count(KEY) == 2


def test_what_was_refused_is_noted_at_the_next_pull(driver: Counting) -> None:
    pulls = LastPulls(driver)
    driver.broken = True
    pulls.note(NAME, TAG)
    pulls.write()
    driver.broken = False
    pulls.write()
    assert KEY not in driver.writes
    pulls.note(NAME, TAG)
    pulls.write()
    assert KEY in driver.writes


def test_the_memory_is_bounded(driver: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.last_pulls.REMEMBERED", 5)
    pulls = LastPulls(driver)
    for number in range(12):
        pulls.note(NAME, Tag(str(number)))
    pulls.write()
    assert len(driver.writes) == 13


def driver_time(driver: Counting) -> float:
    driver.write("clock", b"")
    return driver.stat("clock").modified
