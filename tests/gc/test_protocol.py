"""Pushes in the middle of a run, one schedule each; the explorer finds the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from registry_gc import sweep
from registry_gc.mark import Mark
from registry_gc.options import Options
from registry_gc.outcome import CollectionStopped, OutOfTime, TakenOver
from registry_gc.publishing import Publisher

from storage import layout
from storage.collection import entries
from storage.collection.clock import Clock
from storage.collection.guard import Guard
from storage.collection.publication import listed
from storage.collection.timing import Timing
from storage.driver import Child, Driver
from storage.driver_errors import NoSpace, Unavailable
from storage.model.digest import Digest
from storage.model.errors import Doomed, ManifestBlobUnknown
from storage.model.errors import Unavailable as Refused
from storage.repository import Store
from tests.gc.shop import AT_ONCE, Shop

ONE, TWO = b"one", b"two"
Hook = Callable[[], object]


class Suspended(Clock):
    """Goes on from where it is told to."""

    late = 0.0

    def now(self) -> float:
        return super().now() + self.late

    def wall(self) -> float:
        return super().wall() + self.late


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Does something at each wait of a run: `during(before=..., doomed=...)`, whatever is announced."""

    def arrange(before: Hook = lambda: None, doomed: Hook = lambda: None) -> None:
        def wait(self: sweep.Sweep) -> None:
            (doomed if self._publisher.current.doomed else before)()

        monkeypatch.setattr(sweep.Sweep, "wait", wait)

    return arrange


def fresh(shop: Shop) -> Store:
    """Another node, which has seen nothing yet."""
    return Store(shop.driver)


def test_what_is_doomed_is_refused_and_told_as_absent(
    plain: Shop, during: Callable[..., None]
) -> None:
    digest = plain.blob("a", ONE)
    seen = []

    def push() -> None:
        guard = Guard(plain.driver)
        seen.append(guard.may_be_going(entries.blob(digest)))
        seen.append(guard.is_going(entries.blob(digest)))
        with pytest.raises(Doomed):
            Shop(plain.driver).image("a", "1", ONE)
        with pytest.raises(Doomed):
            fresh(plain).repository(plain.repository("b").name).blobs.mount(
                digest, plain.repository("a").blobs
            )

    during(doomed=push)
    plain.collect()
    assert seen == [True, True]
    assert not plain.has_blob(digest)
    assert plain.pulls("a", Shop(plain.driver).image("a", "1", ONE))


def test_a_push_between_condemnation_and_doom_saves_what_it_uses(
    plain: Shop, during: Callable[..., None]
) -> None:
    """HEAD says that the layer is there, and the manifest comes while the collector is at work."""
    plain.blob("a", ONE)
    plain.collect(again=False, undo=3600.0)
    pushed: list[Digest] = []

    plain_mark = Mark.run

    def mark_then_push(self: Mark) -> None:
        plain_mark(self)
        if not pushed:
            pushed.append(Shop(plain.driver).image("a", "1", ONE))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mark, "run", mark_then_push)
        report = plain.collect(again=False, undo=0.0)
    assert report.blobs_removed == 0
    assert plain.pulls("a", pushed[0])


def test_a_mount_of_what_is_condemned_saves_it(plain: Shop) -> None:
    digest = plain.blob("a", ONE)
    plain.collect(again=False, undo=3600.0)
    fresh(plain).repository(plain.repository("b").name).blobs.mount(
        digest, plain.repository("a").blobs
    )
    assert [*plain.driver.walk(layout.KEPT)]
    report = plain.collect(again=False, undo=0.0)
    assert report.blobs_removed == 0
    assert plain.has_blob(digest)


def test_a_child_that_goes_while_its_index_is_pushed_is_missed_or_kept(
    plain: Shop, during: Callable[..., None]
) -> None:
    child = plain.image("a", None, ONE)
    keeper = plain.image("a", "keeper", TWO)

    def push() -> None:
        with pytest.raises(Doomed):
            Shop(plain.driver).index("a", "1", [child])

    during(doomed=push)
    plain.collect(untagged=-10.0)
    with pytest.raises(ManifestBlobUnknown):
        Shop(plain.driver).index("a", "1", [child])
    assert plain.pulls("a", keeper)


def test_a_push_that_took_too_long_is_not_acknowledged(plain: Shop) -> None:
    class Slow(Clock):
        def __init__(self) -> None:
            self.moment = 0.0

        def now(self) -> float:
            return self.moment

        def wall(self) -> float:
            return 0.0

    clock = Slow()
    reliance = Guard(plain.driver, Timing(), clock).rely([])
    clock.moment = 39.0
    reliance.confirm()
    assert reliance.tight
    clock.moment = 41.0
    with pytest.raises(Refused, match="push again"):
        reliance.confirm()


def test_where_the_collectors_state_cannot_be_read_pushes_wait_and_pulls_go_on(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = plain.image("a", "1", ONE)
    inner = type(plain.driver).list

    def refuse(self: Driver, prefix: str, *, after: str = "") -> object:
        if prefix == layout.PUBLICATIONS:
            raise Unavailable("not now")
        return inner(self, prefix, after=after)

    monkeypatch.setattr(type(plain.driver), "list", refuse)
    assert plain.pulls("a", digest)
    with pytest.raises(Refused):
        Shop(plain.driver).image("a", "2", ONE)
    assert not Guard(plain.driver).is_going(entries.blob(digest))


def test_a_run_that_was_taken_over_stops_and_removes_nothing(
    plain: Shop, during: Callable[..., None]
) -> None:
    digest = plain.blob("a", ONE)

    def take_over() -> None:
        for name in listed(plain.driver):
            plain.driver.write(layout.fenced(name.run), b"")

    during(doomed=take_over)
    with pytest.raises(TakenOver):
        plain.collect()
    assert plain.has_blob(digest)


def test_a_suspended_run_that_wakes_up_removes_nothing(
    plain: Shop, during: Callable[..., None]
) -> None:
    """Another run has ended its removals, and it has not looked since."""
    digest = plain.blob("a", ONE)
    inner = sweep.keep_notes

    def then_suspended(driver: Driver) -> dict[str, float]:
        notes = inner(driver)
        for name in listed(driver):
            driver.end_discards(name.run)
        return notes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "keep_notes", then_suspended)
        report = plain.collect()
    assert report.blobs_removed == 0
    assert plain.has_blob(digest)
    assert plain.collect().blobs_removed == 1


def test_a_machine_that_is_always_held_up_removes_nothing(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = plain.blob("a", ONE)
    times = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(sweep, "store_time", lambda _: 2e9 + next(times))
    with pytest.raises(CollectionStopped, match="held up"):
        plain.collect()
    assert plain.has_blob(digest)


def test_what_a_run_left_is_taken_over(plain: Shop, during: Callable[..., None]) -> None:
    """It died when its chunk was announced; the next one confirms, announces and removes."""
    digest = plain.blob("a", ONE)

    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    during(doomed=die)
    with pytest.raises(Died):
        plain.collect()
    during()
    report = plain.collect()
    assert report.blobs_removed == 1
    assert not plain.has_blob(digest)
    assert len({name.run for name in listed(plain.driver)}) == 1


def test_a_run_that_is_interrupted_hands_over_at_once(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.blob("a", ONE)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Mark, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        plain.collect()
    monkeypatch.undo()
    assert plain.collect().blobs_removed == 1


def test_the_time_given_ends_a_run_and_the_next_goes_on(plain: Shop) -> None:
    plain.blob("a", ONE)
    with pytest.raises(OutOfTime):
        plain.collect(max_duration=0.0)
    assert plain.collect().blobs_removed == 1


def test_a_full_store_stops_a_run_with_nothing_lost(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = plain.blob("a", ONE)

    def full(*_: object) -> None:
        raise NoSpace("full")

    monkeypatch.setattr(type(plain.driver), "write", full)
    with pytest.raises(NoSpace):
        plain.collect()
    monkeypatch.undo()
    assert plain.has_blob(digest)


def test_chunks_are_removed_one_after_the_other(plain: Shop) -> None:
    blobs = [plain.blob("a", b"%d" % number) for number in range(25)]
    report = plain.collect(chunk=10)
    assert report.blobs_removed == 25
    assert not any(map(plain.has_blob, blobs))


def test_lists_are_spilled_when_they_grow(plain: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_gc.ledger.LIST_LENGTH", 3)
    monkeypatch.setattr("storage.collection.bloom.LARGEST", 5)
    kept = plain.image("a", "1", ONE)
    for number in range(40):
        plain.blob("a", b"%d" % number)
    plain.collect(again=False, undo=3600.0, spill=7)
    guard = Guard(plain.driver)
    assert all(guard.may_be_going(entries.blob(Digest.of(b"%d" % n))) for n in range(40))
    assert plain.collect(again=False, undo=0.0, spill=7).blobs_removed == 40
    assert plain.pulls("a", kept)


def test_a_list_that_took_long_ages_no_announcement(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was announced while a node waited for the list stands as long as any other."""
    digest = plain.blob("a", ONE)
    timing, clock = Timing(), Suspended()
    guard = Guard(plain.driver, timing, clock)
    plain_list = plain.driver.list

    def slow_once(prefix: str, *, after: str = "") -> Iterator[Child]:
        monkeypatch.undo()
        clock.late += 2 * timing.stale
        return plain_list(prefix, after=after)

    Publisher(plain.driver, "run").publish(doomed=[entries.blob(digest)])
    monkeypatch.setattr(plain.driver, "list", slow_once)
    assert guard.is_going(entries.blob(digest))
    clock.late += 2 * timing.stale
    assert not guard.is_going(entries.blob(digest)), "nobody took it back, so its run is dead"


def test_a_newer_version_is_not_meddled_with(plain: Shop) -> None:
    plain.image("a", "1", ONE)
    plain.driver.write(layout.publication("future", 1), b'{"version":2}')
    with pytest.raises(Refused):
        Shop(plain.driver).image("a", "2", ONE)


def test_publications_are_never_overwritten(plain: Shop) -> None:
    publisher = Publisher(plain.driver, "run")
    keys = []
    for _ in range(3):
        publisher.publish()
        keys.append(publisher.current.key)
    assert len(set(keys)) == 3
    assert [name.key for name in listed(plain.driver)] == keys[-1:]


def test_options_say_what_docs_say() -> None:
    timing = Options().timing
    assert 45 < timing.wait < 50
    assert 95 < timing.void < 100
    assert AT_ONCE.wait == 0
