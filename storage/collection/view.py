"""What one process knows of the collector's runs, and since when.

The view is the union over all runs: what any of them condemned is condemned, what any of them doomed is
doomed. An announcement that nobody took back for `Timing.stale` is over: on a store whose removals
expire they have expired; elsewhere this process ends the run's removals before it believes so.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from storage.collection.bloom import Bloom
from storage.collection.clock import Clock
from storage.collection.entries import Entry
from storage.collection.publication import (
    Name,
    Publication,
    Unreadable,
    decode,
    listed,
    newest,
)
from storage.collection.timing import Timing
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound, Unavailable

log = logging.getLogger("holdfast.collection")

ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`taken` is before the storage was asked, by the clock of this process."""

    taken: float
    wall: float
    filters: tuple[Bloom, ...] = ()
    doomed: frozenset[Entry] = frozenset()

    def condemned(self, entry: Entry) -> bool:
        return any(entry in each for each in self.filters)


@dataclass(slots=True)
class _Seen:
    publication: Publication
    since: float
    ended: bool = False


@dataclass(slots=True)
class _Known:
    runs: dict[str, _Seen] = field(default_factory=dict)
    filters: dict[str, Bloom] = field(default_factory=dict)


class View:
    """Thread-safe."""

    def __init__(self, driver: Driver, timing: Timing, clock: Clock) -> None:
        self._driver = driver
        self._timing = timing
        self._clock = clock
        self._lock = threading.Lock()
        self._known = _Known()
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest, however old."""
        return self._snapshot

    def within(self, age: float) -> Snapshot:
        """A snapshot that is not older than `age` seconds. Raises the driver's errors."""
        snapshot = self._snapshot
        if snapshot is not None and self._clock.now() - snapshot.taken <= age:
            return snapshot
        with self._lock:
            snapshot = self._snapshot
            if snapshot is None or self._clock.now() - snapshot.taken > age:
                snapshot = self._snapshot = self._take()
            return snapshot

    def _take(self) -> Snapshot:
        for _ in range(ATTEMPTS):
            taken, wall = self._clock.now(), self._clock.wall()
            try:
                runs = {run: self._seen(name) for run, name in newest(listed(self._driver)).items()}
                filters = {
                    key: self._filter(key)
                    for seen in runs.values()
                    for key in seen.publication.filters
                }
            except ObjectNotFound:
                continue  # superseded since it was listed: a new list shows by what
            self._known = _Known(runs, filters)
            doomed = [seen for seen in runs.values() if seen.publication.doomed]
            entries = (seen.publication.doomed for seen in doomed if not self._over(seen, taken))
            return Snapshot(
                taken, wall, tuple(filters.values()), frozenset(e for each in entries for e in each)
            )
        raise Unavailable("the collector's publications change faster than they can be read")

    def _seen(self, name: Name) -> _Seen:
        """Since now, when it is read: the list that showed it may have been asked for long before."""
        known = self._known.runs.get(name.run)
        if known is not None and known.publication.sequence >= name.sequence:
            return known
        try:
            publication = decode(name, self._driver.read(name.key))
        except Unreadable as error:
            raise Unavailable(f"a publication of the collector cannot be read: {error}") from error
        return _Seen(publication, self._clock.now())

    def _filter(self, key: str) -> Bloom:
        return self._known.filters.get(key) or Bloom(self._driver.read(key))

    def _over(self, seen: _Seen, now: float) -> bool:
        if not seen.ended and now - seen.since > self._timing.stale:
            run = seen.publication.run
            self._driver.end_discards(run)
            seen.ended = True
            log.warning(
                "the collector's run %s stopped in the middle; what it announced is void", run
            )
        return seen.ended
