"""Runs that end in the middle of a look at the storage, and the runs that go on with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from registry_gc import adoption, housekeeping, references, saved_look
from registry_gc.mark import Mark
from registry_gc.options import DAY
from registry_gc.outcome import Braked, CollectionStopped, OutOfTime
from registry_gc.publishing import Publisher
from registry_gc.report import Report
from registry_gc.store_clock import store_time
from registry_gc.sweep import Sweep

from storage import layout
from storage.collection.publication import listed
from storage.collection.timing import Timing
from storage.driver import Driver
from storage.driver_errors import DriverError, Unavailable
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest
from tests.faults.driver import FaultyDriver
from tests.gc.conftest import STORAGES
from tests.gc.shop import Shop
from tests.gc.test_every_call import MODES, Died, Scene, chosen, struck
from tests.gc.test_protocol import Suspended

ON_RCLONE = pytest.mark.parametrize("shop", [*STORAGES, "rclone_s3"], indirect=True)
NAMES = ["a", "a-b", "a/0", "a/b/c", "b", "c"]
"""In no order that a directory or a bucket has them."""
HOUR = 3600.0


class Budget(Suspended):
    """A clock by which the time of a run is over when so many things were looked at."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            self.late = 2 * HOUR


def collect(shop: Shop, steps: int, **options: Any) -> tuple[Report, bool]:
    """A run whose time is over after so many steps, and whether it came to its end."""
    clock, report = Budget(steps), Report()
    given = {"again": False, "undo": 0.0, "max_duration": HOUR, **options}
    try:
        shop.collect(clock=clock, progress=clock.step, report=report, **given)
    except OutOfTime:
        return report, False
    return report, not report.stopped


def until_done(shop: Shop, steps: int, **options: Any) -> list[Report]:
    reports = []
    for _ in range(1000):
        report, ended = collect(shop, steps, **options)
        reports.append(report)
        if ended:
            return reports
    raise AssertionError("no end is reached")


def saved(shop: Shop) -> list[str]:
    """The keys of what is kept of looks."""
    return [
        info.key
        for info in shop.driver.walk(layout.RUNS)
        if info.key.rsplit("/", 1)[1].startswith("look")
    ]


def stocked(shop: Shop) -> tuple[list[tuple[str, Digest]], list[Digest]]:
    """What is to be kept and what not, the latter condemned."""
    kept = [(name, shop.image(name, "1", name.encode(), b"shared")) for name in NAMES]
    garbage = [shop.blob(name, b"garbage of " + name.encode()) for name in NAMES]
    shop.collect(again=False, undo=HOUR)
    return kept, garbage


@ON_RCLONE
def test_runs_that_are_shorter_than_a_look_get_to_its_end(shop: Shop) -> None:
    kept, garbage = stocked(shop)
    reports = until_done(shop, 100)
    assert len(reports) > 2
    assert all(report.went_on for report in reports[1:])
    assert sum(report.blobs_removed for report in reports) == len(garbage)
    assert not any(map(shop.has_blob, garbage))
    assert all(shop.pulls(name, digest) for name, digest in kept)
    assert saved(shop) == []
    assert shop.collect().condemned_blobs == 0


def test_each_thing_is_looked_at_once_however_short_the_runs() -> None:
    plain = Shop(MemoryDriver())
    kept, garbage = stocked(plain)
    whole = plain.collect(dry_run=True)
    reports = until_done(plain, 4, chunk=2)
    assert len(reports) > 100
    assert sum(report.manifests_fetched for report in reports) == 2 * whole.manifests_fetched
    assert sum(report.blobs_removed for report in reports) == len(garbage)
    last = reports[-1].totals
    assert (last.repositories, last.blobs, last.bytes, last.unique, last.shared) == (
        whole.totals.repositories,
        whole.totals.blobs - len(garbage),  # it is a second look, after the last removal
        whole.totals.bytes - sum(len(b"garbage of " + name.encode()) for name in NAMES),
        whole.totals.unique,
        whole.totals.shared,
    )
    assert all(plain.pulls(name, digest) for name, digest in kept)


@pytest.mark.parametrize("steps", [4, 250])
def test_what_is_pushed_and_deleted_between_two_runs(shop: Shop, steps: int) -> None:
    """In repositories that were looked at already, and in others; with blobs that are condemned."""
    kept, garbage = stocked(shop)
    assert not collect(shop, steps)[1]
    other = Shop(shop.driver)
    pushed = [
        (name, other.image(name, "new", b"garbage of " + name.encode()))
        for name in (NAMES[0], NAMES[2], NAMES[-1])
    ]
    lent = other.image(NAMES[1], "lent", b"garbage of b")
    for name, digest in kept[:2]:
        other.repository(name).manifests.delete(digest)
    report, ended = collect(shop, 1000)
    assert report.went_on
    assert ended
    for name, digest in [*pushed, (NAMES[1], lent), *kept[2:]]:
        assert shop.pulls(name, digest)
    shop.collect()
    for name, digest in [*pushed, (NAMES[1], lent), *kept[2:]]:
        assert shop.pulls(name, digest)
    assert not any(shop.has_blob(digest) for _, digest in kept[:2])
    assert not shop.has_blob(garbage[3])


def test_what_is_tagged_between_two_runs(plain: Shop) -> None:
    untagged = plain.image("a", None, b"one")
    plain.collect(again=False, undo=HOUR, untagged=-10.0)
    assert not collect(plain, 50, untagged=-10.0)[1]
    document = json.loads(plain.content(untagged))
    assert Shop(plain.driver).manifest("a", "1", document) == untagged
    report, _ = collect(plain, 1000, untagged=-10.0)
    assert report.went_on
    assert plain.pulls("a", untagged)


def test_what_is_due_is_removed_by_the_next_run(plain: Shop) -> None:
    """The time is over when the look has ended, and again in the middle of the removals."""
    kept, garbage = stocked(plain)
    whole_look = 1 + len(NAMES) + 256
    reports = [collect(plain, steps, chunk=2)[0] for steps in (whole_look, 0, 0)]
    assert [report.blobs_removed for report in reports] == [2, 2, 2]
    assert [report.manifests_fetched for report in reports[:2]] == [len(NAMES), 0]
    assert not any(map(plain.has_blob, garbage))
    assert all(plain.pulls(name, digest) for name, digest in kept)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Unavailable])
def test_an_interrupted_look_is_kept_as_well(
    plain: Shop, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    kept, _ = stocked(plain)
    inner = Mark._look_at

    def look_at(self: Mark, found: Any) -> None:
        inner(self, found)
        if str(found.name) == "b":
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(Mark, "_look_at", look_at)
        with pytest.raises(error):
            plain.collect(again=False, undo=0.0)
    report, _ = collect(plain, 1000)
    assert report.went_on
    assert report.manifests_fetched == 1
    assert report.blobs_removed == len(NAMES)
    assert all(plain.pulls(name, digest) for name, digest in kept)


def changed(**options: Any) -> Callable[[Shop], dict[str, Any]]:
    return lambda _: options


def another_run(shop: Shop) -> dict[str, Any]:
    shop.collect(again=False, undo=HOUR)
    return {}


def a_run_that_died(shop: Shop) -> dict[str, Any]:
    Publisher(shop.driver, "died").publish(idle=True)
    return {}


def a_damaged_part(shop: Shop) -> dict[str, Any]:
    shop.driver.write(next(key for key in saved(shop) if not key.endswith("look")), b"?")
    return {}


def a_lost_part(shop: Shop) -> dict[str, Any]:
    shop.driver.delete(next(key for key in saved(shop) if not key.endswith("look")))
    return {}


def a_damaged_head(shop: Shop) -> dict[str, Any]:
    shop.driver.write(next(key for key in saved(shop) if key.endswith("look")), b"?")
    return {}


@pytest.mark.parametrize(
    "change",
    [
        changed(minimum_age=-20.0),
        changed(undo=1.0),
        changed(untagged=DAY),
        changed(ignore=frozenset([Digest.of(b"")])),
        changed(again=True),
        changed(offline=True),
        changed(timing=Timing(view=0, section=0, lag=0, send=31)),
        another_run,
        a_run_that_died,
        a_damaged_part,
        a_lost_part,
        a_damaged_head,
    ],
)
def test_when_a_look_begins_anew(plain: Shop, change: Callable[[Shop], dict[str, Any]]) -> None:
    stocked(plain)
    assert not collect(plain, 60)[1]
    assert saved(plain)
    report, _ = collect(plain, 1000, **change(plain))
    assert not report.went_on
    assert report.totals.repositories == len(NAMES)
    assert saved(plain) == []


@pytest.mark.parametrize(
    ("passed", "why"), [(8 * DAY, "more than a week old"), (-HOUR, "which was set back")]
)
def test_a_look_is_not_gone_on_with_for_ever(
    plain: Shop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    passed: float,
    why: str,
) -> None:
    stocked(plain)
    assert not collect(plain, 60)[1]
    monkeypatch.setattr(saved_look, "store_time", lambda driver: store_time(driver) + passed)
    assert not collect(plain, 1000)[0].went_on
    assert why in caplog.text
    assert saved(plain) == []


def test_what_another_run_takes_back_meanwhile_ends_a_look(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that for a moment nothing said what is condemned, and a push may have left no note."""
    stocked(plain)
    assert not collect(plain, 60)[1]
    inner = Sweep.wait

    def wait(self: Sweep) -> None:
        first = min(listed(plain.driver), key=lambda name: name.run != self._publisher.run)
        plain.driver.delete_many(
            [name.key for name in listed(plain.driver) if name.run != first.run]
        )
        inner(self)

    monkeypatch.setattr(Sweep, "wait", wait)
    report, ended = collect(plain, 1000)
    assert (report.went_on, ended) == (False, True)
    assert saved(plain) == []


def test_an_interruption_before_the_look_costs_nothing_of_it(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked(plain)
    assert not collect(plain, 60)[1]
    keys = saved(plain)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "wait", interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                plain.collect(again=False, undo=0.0)
    assert saved(plain) == keys
    assert collect(plain, 1000)[0].went_on


def test_what_a_brake_stopped_is_looked_at_anew(plain: Shop) -> None:
    plain.blob("a", b"one")
    for _ in range(2):
        with pytest.raises(Braked):
            plain.collect(again=False, force=False)
        assert saved(plain) == []


def test_what_of_a_repository_was_fetched_is_not_fetched_again(shop: Shop) -> None:
    """Also where a repository is so large that the time is over in the middle of it."""
    for number in range(12):
        shop.image("a", str(number), b"%d" % number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "BETWEEN_BEATS", 5)
        fetched = [collect(shop, 1)[0].manifests_fetched for _ in range(3)]
    assert fetched == ([5, 5, 2] if shop.driver.remote else [12, 0, 0])


@pytest.mark.parametrize(("moment", "every"), [("dies after it", 2), ("fails before it", 5)])
def test_a_run_that_goes_on_may_end_anywhere(
    moment: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mode,) = (mode for mode in MODES if mode.name == moment)

    def begun() -> Scene:
        scene = Scene(None)
        scene.shop.collect(again=False, undo=HOUR, untagged=-10.0)
        assert not collect(Shop(scene.open()), 100, untagged=-10.0)[1]
        return scene

    def go_on(driver: Driver) -> Report:
        return collect(Shop(driver), 1000, untagged=-10.0, threads=1)[0]

    counting = FaultyDriver(begun().open())
    assert go_on(counting).went_on
    steps = chosen(counting.calls)
    assert len(steps) > 20
    for step in steps[::every]:
        scene = begun()
        driver = struck(scene, mode.fault(step))
        with suppress(Died, DriverError, CollectionStopped):
            go_on(driver)
        what = f"{mode} call {step}, {counting.calls[step - 1]}"
        assert scene.is_sound(), what
        with monkeypatch.context() as later:
            later.setattr(adoption, "store_time", lambda driver: store_time(driver) + HOUR)
            for _ in range(3):
                collect(Shop(scene.open()), 1000, untagged=-10.0)
            later.setattr(housekeeping, "MARKERS_KEPT", -10.0)
            collect(Shop(scene.open()), 1000, untagged=-10.0)
        assert scene.is_sound(), what
        assert not any(map(scene.shop.has_blob, scene.garbage)), what
        assert saved(scene.shop) == [], what
