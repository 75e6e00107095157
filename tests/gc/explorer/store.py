"""A store in memory whose every request is a turn of the scheduler, with the faults that a seed decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from storage import layout
from storage.driver import Anything, Child, Discarder, ObjectInfo
from storage.driver_errors import DriverError, Unavailable, Void
from storage.drivers.memory import MemoryDriver, MemoryReader, MemoryWriter, _Growing, _Stored
from tests.gc.explorer.scheduler import Scheduler

T = TypeVar("T")


@dataclass(frozen=True)
class Faults:
    """Chances, of each request."""

    crash: float = 0.004
    timeout: float = 0.008
    slow: float = 0.01
    lands_late: float = 0.7
    of_collector: float = 0.3
    """Of these chances; a run makes a hundred requests, and is of use if it gets to its end."""
    lost_discards: float = 0.05
    """The chance that a removal is not answered, and so may land late."""
    dawdle: float = 15.0
    """Seconds, at most, that a run may need between its last look at notes and its first removal."""

    def times(self, factor: float) -> Faults:
        return replace(
            self,
            crash=self.crash * factor**0.5,
            timeout=self.timeout * factor,
            slow=self.slow * factor,
        )


class _Objects(dict[str, _Stored]):
    """Knows how many blobs each shard has."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: Counter[str] = Counter()

    def __setitem__(self, key: str, value: _Stored) -> None:
        if key not in self:
            self._count(key, 1)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._count(key, -1)
        super().__delitem__(key)

    def pop(self, key: str, *default: Any) -> Any:
        if key in self:
            self._count(key, -1)
        return super().pop(key, *default)

    def _count(self, key: str, change: int) -> None:
        if key.startswith(layout.BLOBS):
            self.blobs[key[:_SHARD_LENGTH]] += change


_SHARD_LENGTH = len(f"{layout.BLOBS}/sha256/00")


class SimulatedStore(MemoryDriver):
    """`expiring`: as S3, removals end by a time; else as on a filesystem, by whoever ends them."""

    def __init__(
        self,
        scheduler: Scheduler,
        faults: Faults,
        removed: Callable[[str], None],
        moved: Callable[[str, bytes], None],
        *,
        expiring: bool,
    ) -> None:
        """`removed` is told of each key that is gone, and raises if it may not be; `moved` of each tag."""
        super().__init__()
        self._objects = _Objects()
        self._blobs = self._objects.blobs
        self.scheduler = scheduler
        self.faults = faults
        self.removed = removed
        self.moved = moved
        self.discards_expire = expiring
        self.void = True
        self.counts: dict[str, int] = {}

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def has(self, key: str) -> bool:
        return key in self._objects

    def content(self, key: str) -> bytes | None:
        stored = self._objects.get(key)
        return None if stored is None else stored.data

    # Requests

    def stat(self, key: str) -> ObjectInfo:
        return self._request(lambda: MemoryDriver.stat(self, key))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return self._request(lambda: MemoryDriver.read(self, key, offset=offset, length=length))

    def open(self, key: str) -> MemoryReader:
        return self._request(lambda: MemoryDriver.open(self, key))

    def write(self, key: str, data: bytes) -> None:
        self._request(lambda: self._put(key, data), changes=True)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        """Never answered late: what becomes of a tag then, no store without conditions can promise."""
        self._request(lambda: self._swap(key, data, expected))

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> MemoryWriter:
        return self._request(lambda: MemoryDriver.writer(self, key, create=create))

    def publish(self, staging: str, growing: _Growing, key: str) -> None:
        def publish() -> None:
            MemoryDriver.publish(self, staging, growing, key)
            self._objects[key] = _Stored(self._objects[key].data, self.scheduler.now)

        self._request(publish, changes=True)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        return self._request(lambda: MemoryDriver.list(self, prefix, after=after))

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """What a page shows was there when it was asked for, and is acted on later.

        Of the hundreds of shards of a store nearly all are empty here, and cost no turn.
        """
        if prefix.startswith(layout.BLOBS) and not self._blobs.get(prefix):
            return iter(())
        found = self._request(lambda: [*MemoryDriver.walk(self, prefix, after=after)])
        if prefix == layout.KEPT:
            self.scheduler.sleep(self.scheduler.random.random() * self.faults.dawdle)
        return iter(sorted(found, key=lambda info: info.key))

    def delete(self, key: str) -> None:
        self._request(lambda: self._delete([key]), changes=True)

    def delete_many(self, keys: Iterable[str]) -> None:
        wanted = [*keys]
        if wanted:
            self._request(lambda: self._delete(wanted), changes=True)

    def delete_tree(self, prefix: str) -> None:
        def delete() -> None:
            gone = [key for key in self._objects if key.startswith(f"{prefix}/")]
            MemoryDriver.delete_tree(self, prefix)
            for key in gone:
                self.removed(key)

        self._request(delete, changes=True)

    def discarder(  # type: ignore[override] # the same promise
        self, batch: str, *, since: float, lifetime: float
    ) -> Discarder:
        return _Discards(self, batch, since + lifetime)

    def end_discards(self, batch: str) -> None:
        if not self.discards_expire:
            self._request(lambda: self._ended.add(batch))

    def forget_discards(self, batch: str) -> None:
        self.end_discards(batch)

    def discard_within(self, batch: str, expires: float, key: str) -> bool:
        def discard() -> bool:
            over = self.scheduler.now > expires if self.discards_expire else batch in self._ended
            if self.void and over:
                self.count("void")
                raise Void(key)
            there = self._objects.pop(key, None) is not None
            if there:
                self.count("discard")
                self.removed(key)
            return there

        if self.scheduler.random.random() < self.faults.lost_discards:
            self.count("lost")
            self._land_late(discard, True)
            raise Unavailable("no answer")
        return self._request(discard, changes=True)

    # Effects

    def _put(self, key: str, data: bytes) -> None:
        self._objects[key] = _Stored(bytes(data), self.scheduler.now)

    def _swap(self, key: str, data: bytes | None, expected: bytes | None | Anything) -> None:
        MemoryDriver.swap(self, key, data, expected=expected)
        if data is not None:
            self._put(key, data)
            self.moved(key, data)
        else:
            self.removed(key)

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            if self._objects.pop(key, None) is not None:
                self.removed(key)

    # Turns and faults

    def _request(self, effect: Callable[[], T], *, changes: bool = False) -> T:
        scheduler, faults, random = self.scheduler, self.faults, self.scheduler.random
        process = scheduler.current
        duration = random.expovariate(1 / 0.05)
        if random.random() < faults.slow:
            self.count("slow")
            duration += random.choice([1, 10, 50, 150]) * random.random()
        scheduler.sleep(duration)
        chance = random.random()
        if process.name.startswith("gc"):
            chance /= faults.of_collector
        if process.mortal and not process.steady:
            if chance < faults.crash:
                self.count("crash")
                self._land_late(effect, changes)
                scheduler.die()
            elif chance < faults.crash + faults.timeout:
                self.count("timeout")
                self._land_late(effect, changes)
                raise Unavailable("no answer")
        return effect()

    def _land_late(self, effect: Callable[[], object], changes: bool) -> None:
        random = self.scheduler.random
        if changes and random.random() < self.faults.lands_late:

            def land() -> None:
                try:
                    effect()
                except DriverError:
                    return

            delay = random.choice([0.1, 5, 30, 60, 100]) * random.random()
            self.scheduler.at(self.scheduler.now + delay, land)


@dataclass(frozen=True)
class _Discards:
    store: SimulatedStore
    batch: str
    expires: float

    def discard(self, key: str) -> bool:
        return self.store.discard_within(self.batch, self.expires, key)
