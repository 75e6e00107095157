"""When one listing takes the place of many look-ups of links, and what it may not hide."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest

from storage import layout, links, listed_links
from storage.driver import ANYTHING, ObjectInfo
from storage.driver_errors import ObjectNotFound, Unavailable, WouldBlock
from storage.listed_links import PAUSE, WORTH
from storage.model.digest import Digest
from storage.model.reference import RepositoryName
from storage.remembered import Memory, RememberingDriver, Staleness
from tests.storage.remote import RemoteMemory

NAME = RepositoryName("team/app")
DIGESTS = [Digest.of(b"%d" % number) for number in range(40)]
BELIEVED = 30.0
TIMEOUT = 60.0
"""Seconds; what takes as long has failed."""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store(RemoteMemory):
    """Its listings can be stopped when they are made and not yet told, and can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()
        self.listed = threading.Event()
        self.error: Exception | None = None

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        found = [*super().walk(prefix, after=after)]
        if self.error is not None:
            raise self.error
        self.listed.set()
        assert self.go_on.wait(TIMEOUT)
        return iter(found)


class World:
    """A node with its memory, and the storage, in which other nodes change things too."""

    def __init__(self, lag: float = 0.0) -> None:
        self.clock = Clock()
        self.storage = Store()
        staleness = Staleness(links=BELIEVED, lag=lag)
        self.driver = RememberingDriver(self.storage, Memory(staleness, self.clock))
        self.lookups = self.driver.lookups()
        self.immediate = self.driver.immediate()
        for digest in DIGESTS:
            self.push(digest)
        self.storage.asked.clear()

    def push(self, digest: Digest) -> None:
        """On another node."""
        self.storage.write(layer(digest), links.encode(digest))

    def pull(self, *digests: Digest) -> None:
        for digest in digests:
            assert self.lookups.read(layer(digest), length=256) == links.encode(digest)

    def spent(self) -> tuple[int, int]:
        """Look-ups and listings since the last time."""
        asked = self.storage.asked
        counts = asked["read"], asked["walk"]
        asked.clear()
        return counts

    def warm(self) -> None:
        """All links are known by a listing that has paid, made at this time."""
        self.pull(*DIGESTS)
        assert self.spent() == (WORTH - 1, 1)


def layer(digest: Digest) -> str:
    return layout.layer(NAME, digest)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a look-up waits for the listing."""
    monkeypatch.setattr(listed_links, "PATIENCE", TIMEOUT)


@pytest.fixture
def world() -> World:
    return World()


def test_many_lookups_of_a_repository_cost_a_dozen_and_a_listing(world: World) -> None:
    world.pull(*DIGESTS, *DIGESTS)
    assert world.spent() == (WORTH - 1, 1)


def test_few_cost_no_listing_however_often_they_come(world: World) -> None:
    for _ in range(5):
        world.pull(*DIGESTS[: WORTH - 1])
        assert world.spent() == (WORTH - 1, 0)
        world.clock.now += BELIEVED + 0.1


def test_lookups_that_lie_far_apart_are_not_added_up(world: World) -> None:
    for digest in DIGESTS:
        world.pull(digest)
        world.clock.now += BELIEVED / 5
    assert world.spent() == (len(DIGESTS), 0)


def test_each_repository_and_algorithm_counts_by_itself(world: World) -> None:
    for number, digest in enumerate(DIGESTS):
        name = RepositoryName(f"team/app-{number % 4}")
        world.storage.write(layout.layer(name, digest), links.encode(digest))
        world.lookups.read(layout.layer(name, digest), length=256)
    assert world.spent() == (len(DIGESTS), 0)


def test_revisions_are_listed_as_layers_are(world: World) -> None:
    for digest in DIGESTS:
        world.storage.write(layout.revision(NAME, digest), links.encode(digest))
    world.spent()
    for digest in DIGESTS:
        key = layout.revision(NAME, digest)
        assert world.lookups.read(key, length=256) == links.encode(digest)
    assert world.spent() == (WORTH - 1, 1)


def test_histories_of_tags_and_blobs_are_never_listed(world: World) -> None:
    for digest in DIGESTS:
        for key in (
            f"{layout.tags(NAME)}/1/index/sha256/{digest.hex}/link",
            layout.blob(digest),
        ):
            world.storage.write(key, links.encode(digest))
            world.lookups.read(key, length=256)
    assert world.spent() == (2 * len(DIGESTS), 0)


def test_after_a_listing_that_paid_the_second_lookup_brings_the_next(world: World) -> None:
    world.warm()
    world.clock.now += BELIEVED
    world.pull(*DIGESTS)
    assert world.spent() == (1, 1)


def test_after_one_that_did_not_pay_a_dozen_do_again(world: World) -> None:
    world.pull(*DIGESTS[:WORTH])
    assert world.spent() == (WORTH - 1, 1)
    world.clock.now += BELIEVED
    world.pull(*DIGESTS)
    assert world.spent() == (WORTH - 1, 1)


def test_the_view_of_the_event_loop_knows_what_was_listed_and_asks_for_nothing(
    world: World,
) -> None:
    world.warm()
    for digest in DIGESTS:
        assert world.immediate.read(layer(digest)) == links.encode(digest)
    world.clock.now += BELIEVED
    with pytest.raises(WouldBlock):
        world.immediate.read(layer(DIGESTS[-1]))
    assert world.spent() == (0, 0)


def test_who_writes_asks_the_storage_itself(world: World) -> None:
    world.warm()
    world.storage.delete(layer(DIGESTS[-1]))
    with pytest.raises(ObjectNotFound):
        world.driver.read(layer(DIGESTS[-1]), length=256)


@pytest.mark.parametrize("lag", [0.0, 5.0])
def test_what_another_node_deleted_is_gone_in_time(lag: float) -> None:
    world = World(lag)
    world.warm()
    world.storage.delete(layer(DIGESTS[-1]))
    world.clock.now += BELIEVED - lag - 0.1
    world.pull(DIGESTS[-1])
    world.clock.now += 0.2
    for _ in range(3):
        with pytest.raises(ObjectNotFound):
            world.lookups.read(layer(DIGESTS[-1]), length=256)


def test_where_listings_lag_too_far_there_are_none() -> None:
    world = World(lag=BELIEVED)
    world.pull(*DIGESTS)
    assert world.spent() == (len(DIGESTS), 0)


def test_what_another_node_pushed_after_the_listing_is_found(world: World) -> None:
    world.warm()
    new = Digest.of(b"new")
    world.push(new)
    world.pull(new, new)
    assert world.spent() == (1, 0)


def test_a_newer_listing_outweighs_what_was_found_before_it(world: World) -> None:
    world.pull(DIGESTS[0])
    world.clock.now += 1
    world.storage.delete(layer(DIGESTS[0]))
    world.pull(*DIGESTS[1:])
    assert world.spent()[1] == 1
    with pytest.raises(ObjectNotFound):
        world.lookups.read(layer(DIGESTS[0]), length=256)


def test_what_was_found_after_a_listing_outweighs_it(world: World) -> None:
    world.warm()
    new = Digest.of(b"new")
    world.clock.now += BELIEVED - 1
    world.push(new)
    world.pull(new)
    world.clock.now += 2  # now the listing is not believed any more
    world.spent()
    world.pull(new)
    assert world.spent() == (0, 0)


def test_an_empty_or_torn_link_is_read_by_itself(world: World) -> None:
    world.storage.write(layer(DIGESTS[-1]), b"")
    world.storage.write(layer(DIGESTS[-2]), b"sha256:12")
    world.pull(*DIGESTS[:-2])
    world.spent()
    assert world.lookups.read(layer(DIGESTS[-1]), length=256) == b""
    assert world.lookups.read(layer(DIGESTS[-2]), length=256) == b"sha256:12"
    assert world.spent() == (2, 0)


def test_a_link_that_names_another_digest_is_read_by_itself(world: World) -> None:
    own = [Digest.of(b"%d" % number, "sha512") for number in range(WORTH)]
    other = Digest.of(b"other", "sha512")
    for digest in own:
        world.push(digest)
    world.storage.write(layer(other), links.encode(DIGESTS[0]))
    world.pull(*own)
    assert world.spent()[1] == 1
    assert world.lookups.read(layer(other), length=256) == links.encode(DIGESTS[0])


def test_what_a_cut_listing_does_not_show_is_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_links, "LIMIT", 20)
    world.pull(*DIGESTS[: WORTH + 1])
    world.spent()
    world.pull(*DIGESTS)
    assert world.spent() == (len(DIGESTS) - 20, 0)


def test_a_repository_with_too_many_links_is_not_listed_again_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "holdfast.storage")
    monkeypatch.setattr(listed_links, "LIMIT", len(DIGESTS))
    world.pull(*DIGESTS)
    assert world.spent()[1] == 1
    assert "too many links" in caplog.text
    for _ in range(3):
        world.clock.now += BELIEVED + 0.1
        world.pull(*DIGESTS)
        assert world.spent() == (len(DIGESTS), 0)
    world.clock.now += PAUSE
    monkeypatch.setattr(listed_links, "LIMIT", len(DIGESTS) + 1)
    world.pull(*DIGESTS)
    assert world.spent()[1] == 1


def test_a_listing_that_fails_fails_no_lookup_and_is_not_tried_again_for_a_while(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "holdfast.storage")
    world.storage.error = Unavailable("the store is shut")
    world.pull(*DIGESTS)
    assert world.spent() == (len(DIGESTS), 1)
    assert "the store is shut" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    world.storage.error = None
    world.clock.now += BELIEVED + 0.1
    world.pull(*DIGESTS)
    assert world.spent() == (len(DIGESTS), 0)
    world.clock.now += PAUSE
    world.pull(*DIGESTS)
    assert world.spent() == (WORTH - 1, 1)


def test_a_lookup_does_not_wait_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "holdfast.storage")
    monkeypatch.setattr(listed_links, "PATIENCE", 0.0)
    world.storage.go_on.clear()
    world.pull(*DIGESTS)  # although the listing goes on
    assert world.storage.listed.wait(TIMEOUT)
    assert world.spent() == (len(DIGESTS), 1)
    world.storage.go_on.set()
    wait_until(lambda: "takes too long" in caplog.text)
    world.clock.now += BELIEVED + 0.1
    world.pull(*DIGESTS)
    assert world.spent() == (len(DIGESTS), 0)


def test_lookups_at_once_share_one_listing(world: World) -> None:
    world.pull(*DIGESTS[: WORTH - 1])
    world.storage.go_on.clear()
    with ThreadPoolExecutor(10) as pool:
        pulls = [pool.submit(world.pull, digest) for digest in DIGESTS[WORTH - 1 :]]
        assert world.storage.listed.wait(TIMEOUT)
        world.storage.go_on.set()
        for pull in pulls:
            pull.result(TIMEOUT)
    assert world.spent() == (WORTH - 1, 1)


LAST = layer(DIGESTS[-1])
DELETIONS: list[Callable[[RememberingDriver], None]] = [
    lambda driver: driver.delete(LAST),
    lambda driver: driver.delete_many([LAST]),
    lambda driver: driver.delete_tree(layout.repository(NAME)),
    lambda driver: driver.delete_tree(layout.layer_directory(NAME, DIGESTS[-1])),
    lambda driver: driver.swap(LAST, None, expected=ANYTHING),
]


@pytest.mark.parametrize("delete", DELETIONS)
def test_what_this_process_deletes_while_it_is_listed_is_gone(
    world: World, delete: Callable[[RememberingDriver], None]
) -> None:
    world.pull(*DIGESTS[: WORTH - 1])
    world.storage.go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(world.lookups.read, layer(DIGESTS[WORTH]), length=256)
        assert world.storage.listed.wait(TIMEOUT)
        delete(world.driver)
        world.storage.go_on.set()
        pull.exception(TIMEOUT)  # of a tree that is deleted it finds nothing, either
    with pytest.raises(ObjectNotFound):
        world.lookups.read(LAST, length=256)


@pytest.mark.parametrize("delete", DELETIONS)
def test_what_this_process_deletes_after_it_was_listed_is_gone(
    world: World, delete: Callable[[RememberingDriver], None]
) -> None:
    world.warm()
    delete(world.driver)
    with pytest.raises(ObjectNotFound):
        world.lookups.read(LAST, length=256)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_links, "LINKS_REMEMBERED", 100)
    world = World()
    world.warm()
    for number in range(3):
        name = RepositoryName(f"team/app-{number}")
        for digest in DIGESTS:
            world.storage.write(layout.layer(name, digest), links.encode(digest))
        for digest in DIGESTS:
            world.lookups.read(layout.layer(name, digest), length=256)
    assert len(world.driver._memory._listed._listings) == 2


def wait_until(true: Callable[[], bool]) -> None:
    deadline = monotonic() + TIMEOUT
    while not true():
        assert monotonic() < deadline
        sleep(0.01)
