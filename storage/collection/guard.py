"""What a push asks before it relies on content that is there already, and once more before it is answered.

    reliance = guard.rely(entries)     waits for nothing: what is doomed raises Doomed
    ...verify that it is there, write links...
    reliance.confirm()                 raises Unavailable if all of this took too long to be believed

Between the two, none of the entries is removed; and if one was about to be, a note that this leaves
behind keeps it. Everything in between must be safe to repeat. A pull never asks.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage import layout
from storage.at_once import at_once
from storage.collection.clock import Clock
from storage.collection.entries import Entry, name_of
from storage.collection.timing import Timing
from storage.collection.view import Snapshot, View
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.model.errors import Doomed, Unavailable

log = logging.getLogger("holdfast.collection")

FRESH = 0.25
"""The part of `Timing.view` after which a view is renewed, so that one which is used has time left."""


@dataclass(frozen=True, slots=True)
class Reliance:
    """May be used from the time of its view until `Timing.view + Timing.section` later."""

    _snapshot: Snapshot
    _clock: Clock
    _timing: Timing

    @property
    def tight(self) -> bool:
        """Whether there may not be time enough for another few requests to the storage."""
        return self._age() > self._timing.view + self._timing.section / 2

    def confirm(self) -> None:
        """Raises Unavailable. What was written meanwhile stays; the same push again is right."""
        if self._age() > self._timing.view + self._timing.section:
            raise Unavailable(
                "The registry's storage was too slow to be sure that nothing was removed meanwhile. "
                "Nothing that was stored is lost; push again.",
                retry_after=1,
            )

    def _age(self) -> float:
        """The wall clock has a say, too: the other one may have stood still with the whole machine."""
        return max(
            self._clock.now() - self._snapshot.taken, self._clock.wall() - self._snapshot.wall
        )


class Guard:
    """One for all repositories of a store. Thread-safe."""

    def __init__(
        self, driver: Driver, timing: Timing | None = None, clock: Clock | None = None
    ) -> None:
        self._driver = driver
        self._timing = timing or Timing()
        self._clock = clock or Clock()
        self._view = View(driver, self._timing, self._clock)

    def rely(self, entries: Iterable[Entry]) -> Reliance:
        """Raises Doomed if one of them may vanish at any moment; the driver's errors."""
        wanted = [*dict.fromkeys(entries)]
        snapshot = self._view.within(self._timing.view * FRESH)
        if not snapshot.doomed.isdisjoint(wanted):
            snapshot = self._view.within(self._timing.view * FRESH / 10)
            if not snapshot.doomed.isdisjoint(wanted):
                raise Doomed()
        self._keep([entry for entry in wanted if snapshot.condemned(entry)])
        return Reliance(snapshot, self._clock, self._timing)

    def is_going(self, entry: Entry) -> bool:
        """For a client that asks whether it must push something: whether it had better do so.

        What is only condemned is kept by the question: the client will not come with it again. Never
        raises: where the collector's state cannot be read, the push itself will be told.
        """
        try:
            self.rely([entry])
        except Doomed:
            return True
        except DriverError as error:
            log.warning("the collector's state could not be read: %s", error)
        return False

    def may_be_going(self, entry: Entry) -> bool:
        """Whether is_going() must be asked; without waiting for anything."""
        snapshot = self._view.snapshot
        if snapshot is None or self._clock.now() - snapshot.taken > self._timing.view:
            return True
        return entry in snapshot.doomed or snapshot.condemned(entry)

    def _keep(self, entries: Sequence[Entry]) -> None:
        at_once(self._driver, self._note, entries)

    def _note(self, entry: Entry) -> None:
        log.info("%s is used again, so the collector is told to keep it", entry)
        self._driver.write(layout.keep_note(name_of(entry), uuid.uuid4().hex), b"")
