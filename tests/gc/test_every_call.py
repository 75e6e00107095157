"""A run that ends at any of its calls to the storage: nothing is lost, and the next one goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from registry_gc import adoption
from registry_gc.outcome import CollectionStopped
from registry_gc.store_clock import store_time

from storage.driver import Driver
from storage.driver_errors import DriverError, NoSpace, Unavailable
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest
from storage.model.reference import Tag
from tests.faults.driver import Call, Fault, FaultyDriver, Moment
from tests.gc.shop import Shop
from tests.gc.test_fsck import look

CHANGING = frozenset(
    {
        "write",
        "swap",
        "delete_many",
        "delete_tree",
        "discard",
        "begin_discards",
        "end_discards",
        "forget_discards",
    }
)
EVERY = 40
"""Of the calls that change nothing, of which there are a thousand, each of so many is tried."""


class Died(BaseException):
    """In place of the end of the process."""


@dataclass(frozen=True)
class Mode:
    name: str
    fault: Callable[[int], Fault]
    on_disk: bool = False

    def __str__(self) -> str:
        return self.name


MODES = [
    Mode("dies after it", lambda step: Fault.die(step=step, moment=Moment.AFTER), on_disk=True),
    Mode("fails before it", lambda step: Fault.fail(Unavailable("planned"), step=step)),
    Mode(
        "fails after it",
        lambda step: Fault.fail(Unavailable("planned"), step=step, moment=Moment.AFTER),
    ),
    Mode("finds no space", lambda step: Fault.fail(NoSpace("planned"), step=step)),
]


class Scene:
    """An index with its children, a signature, a shared layer; and garbage of each kind."""

    def __init__(self, root: Path | None) -> None:
        """In memory without a root."""
        self._root = root
        self._memory = MemoryDriver()
        self.shop = Shop(self.open())
        shop = self.shop
        children = [shop.image("a", None, b"one"), shop.image("a", None, b"two")]
        self.kept = [("a", shop.index("a", "1", children)), ("b", shop.image("b", "1", b"one"))]
        signature = shop.image("a", None, b"sig", subject=shop.content(self.kept[0][1]))
        self.kept.append(("a", signature))
        shop.image("a", None, b"untagged")
        shop.image("b", "old", b"three")
        shop.repository("b").tags.delete(Tag("old"))
        self.garbage = [shop.blob("b", b"lonely"), shop.blob("a", b"lonelier")]

    def open(self) -> Driver:
        if self._root is None:
            return self._memory
        driver = FilesystemDriver(self._root)
        driver.prepare()
        return driver

    def is_sound(self) -> bool:
        """Also to `registry fsck`: no link names what is gone."""
        shop = Shop(self.open())
        return look(shop).findings == [] and all(
            shop.pulls(name, digest) for name, digest in self.kept
        )


def run(driver: Driver) -> None:
    Shop(driver).collect(untagged=-10.0, threads=1)


def struck(scene: Scene, fault: Fault) -> FaultyDriver:
    def die(_: int) -> None:
        driver.arm(Fault.die())  # a dead process makes no more calls, not even to tidy up
        raise Died

    driver = FaultyDriver(scene.open(), [fault], exit_process=die)
    return driver


def chosen(calls: list[Call]) -> list[int]:
    """The steps to try: all that change something, and some of the others."""
    quiet = [call.step for call in calls if call.method not in CHANGING]
    return sorted({call.step for call in calls if call.method in CHANGING} | {*quiet[::EVERY]})


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_run_that_ends_anywhere(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removals run in threads, so a call's number is not always the same call: any of them will do."""
    counting = FaultyDriver(Scene(tmp_path / "counting" if mode.on_disk else None).open())
    run(counting)
    steps = chosen(counting.calls)
    assert len(steps) > 40
    for number, step in enumerate(steps):
        scene = Scene(tmp_path / f"{number}" if mode.on_disk else None)
        driver = struck(scene, mode.fault(step))
        call = counting.calls[step - 1]
        what = f"{mode} call {step}, {call.method} {call.key}"
        try:
            run(driver)
        except (Died, DriverError, CollectionStopped):
            pass
        assert scene.is_sound(), what
        pushed = Shop(scene.open())
        with monkeypatch.context() as later:
            later.setattr(adoption, "store_time", lambda driver: store_time(driver) + 3600)
            for _ in range(3):
                run(scene.open())
        assert scene.is_sound(), what
        assert not any(map(pushed.has_blob, scene.garbage)), what
        assert not pushed.has_blob(Digest.of(b"untagged")), what
        assert not pushed.has_blob(Digest.of(b"three")), what
