"""What a remote storage is not asked again, and for how long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage import layout
from storage.driver import ANYTHING
from storage.driver_errors import ObjectNotFound, WouldBlock
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from storage.remembered import Memory, RememberingDriver, Staleness
from tests.storage.remote import RemoteMemory

NAME = RepositoryName("team/app")
DIGEST = Digest.of(b"x")
LAYER = layout.layer(NAME, DIGEST)
REVISION = layout.revision(NAME, DIGEST)
BLOB = layout.blob(DIGEST)
TAG = layout.tag_current(NAME, Tag("1"))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Set:
    def __init__(self, **seconds: float) -> None:
        self.clock = Clock()
        self.storage = RemoteMemory()
        self.driver = RememberingDriver(self.storage, Memory(Staleness(**seconds), self.clock))
        self.lookups = self.driver.lookups()
        self.immediate = self.driver.immediate()
        for key in (LAYER, REVISION, BLOB, TAG):
            self.storage.write(key, b"sha256:x")
        self.storage.asked.clear()

    def asks(self, key: str) -> bool:
        before = self.storage.asked["read"]
        assert self.lookups.read(key, length=256) == b"sha256:x"
        return self.storage.asked["read"] > before


@pytest.mark.parametrize("key", [LAYER, REVISION])
def test_a_link_is_read_once_in_its_time(key: str) -> None:
    world = Set(links=30)
    assert world.asks(key)
    assert not world.asks(key)
    world.clock.now += 29.9
    assert not world.asks(key)
    world.clock.now += 0.2
    assert world.asks(key)


def test_a_tag_is_read_every_time_unless_allowed() -> None:
    world = Set()
    assert world.asks(TAG)
    assert world.asks(TAG)
    world = Set(tags=5)
    assert world.asks(TAG)
    assert not world.asks(TAG)
    world.clock.now += 5
    assert world.asks(TAG)


def test_time_counts_from_the_question_not_the_answer() -> None:
    world = Set(links=30)

    class Slow(RemoteMemory):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
            world.clock.now += 20
            return b"sha256:x"

    world.storage = Slow()
    driver = RememberingDriver(world.storage, Memory(Staleness(links=30), world.clock))
    driver.read(LAYER, length=256)
    immediate = driver.immediate()
    world.clock.now += 9
    assert immediate.read(LAYER) == b"sha256:x"
    world.clock.now += 2
    with pytest.raises(WouldBlock):
        immediate.read(LAYER)


def test_a_blob_is_believed_in_for_longer_than_the_links_that_lead_to_it() -> None:
    """So a pull costs one request in between: a link that is there has its blob."""
    world = Set()
    world.lookups.stat(BLOB)
    assert world.asks(LAYER)
    world.clock.now += 500
    assert world.asks(LAYER)
    world.lookups.stat(BLOB)
    assert world.storage.asked["stat"] == 1
    world.clock.now += 101
    world.lookups.stat(BLOB)
    assert world.storage.asked["stat"] == 2


def test_who_writes_asks_the_storage_itself() -> None:
    world = Set()
    world.lookups.read(LAYER, length=256)
    world.storage.delete(LAYER)
    assert world.lookups.read(LAYER, length=256) == b"sha256:x"
    with pytest.raises(ObjectNotFound):
        world.driver.read(LAYER, length=256)


def test_sizes_of_blobs_are_remembered_and_nothing_absent_is() -> None:
    world = Set()
    absent = layout.blob(Digest.of(b"absent"))
    for _ in range(2):
        with pytest.raises(ObjectNotFound):
            world.lookups.stat(absent)
    assert world.storage.asked["stat"] == 2
    assert world.lookups.stat(BLOB) == world.lookups.stat(BLOB)
    assert world.storage.asked["stat"] == 3


def test_changes_of_this_process_are_seen_at_once() -> None:
    world = Set()
    changes: list[Callable[[], None]] = [
        lambda: world.driver.delete(LAYER),
        lambda: world.driver.delete_many(iter([LAYER])),
        lambda: world.driver.delete_tree(LAYER.rpartition("/")[0]),
        lambda: world.driver.swap(LAYER, None, expected=ANYTHING),
    ]
    for change in changes:
        world.storage.write(LAYER, b"sha256:x")
        world.lookups.read(LAYER, length=256)
        change()
        with pytest.raises(ObjectNotFound):
            world.lookups.read(LAYER, length=256)
    world.driver.write(LAYER, b"sha256:y")
    assert world.lookups.read(LAYER) == b"sha256:y"


def test_the_immediate_view_never_asks() -> None:
    world = Set()
    for question in (
        lambda: world.immediate.read(LAYER),
        lambda: world.immediate.stat(BLOB),
        lambda: world.immediate.open(BLOB),
        lambda: world.immediate.list("docker"),
    ):
        with pytest.raises(WouldBlock):
            question()
    assert not world.storage.asked
    world.driver.read(LAYER, length=256)
    world.driver.stat(BLOB)
    assert world.immediate.read(LAYER, offset=7, length=1) == b"x"
    assert world.immediate.stat(BLOB).size == 8


def test_a_cut_answer_is_not_taken_for_the_whole() -> None:
    world = Set()
    assert world.lookups.read(LAYER, length=3) == b"sha"
    assert world.asks(LAYER)


def test_bytes_of_blobs_are_never_kept() -> None:
    world = Set()
    assert world.asks(BLOB)
    assert world.asks(BLOB)
    with pytest.raises(WouldBlock):
        world.immediate.read(BLOB)
