"""Whether links are there, learned from one listing in the place of many look-ups.

A pull asks for each of an image's links, and what was found is believed for some seconds only. One request
lists a thousand links, but Amazon charges it as twelve look-ups. So what holds the links of a repository,
its directory here, is listed when it has cost that many look-ups within that time; and at the second of
them if its last listing saved that many. Whoever asks meanwhile waits for the same listing.

- A listing proves what was there when it was begun, and is believed from then, less the time by which the
  store's listings may lag.
- What a link says follows from its name, so only one that is as long as that is believed. An empty or torn
  one, and one by which Distribution names a sha512 layer's sha256, are read one by one.
- A whole listing outweighs what was found before it: who is not in it is asked for anew. One that is cut
  after LIMIT links says nothing of those beyond, and the directory is not listed again for a while.
- What this process changes while a listing is under way is not taken from it.
- No look-up fails for a listing. If that fails, or takes longer than a look-up may wait, they go on one by
  one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from storage import layout, links
from storage.cache import Cache
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid

log = logging.getLogger("holdfast.storage")

WORTH = 12
"""Look-ups that cost as much as a listing."""
LIMIT = 1000
"""Links of one listing: what a store gives in one request."""
PAUSE = 600.0
"""Seconds for which what cannot be listed in one request, or in time, is not tried again."""
PATIENCE = 1.0
"""Seconds that a look-up waits for a listing."""

LINKS_REMEMBERED = 100_000
"""In all listings together; each takes about 200 bytes."""
DIRECTORIES_REMEMBERED = 10_000


@dataclass(slots=True, eq=False)
class _Listing:
    until: float
    whole: bool
    spared: dict[str, bool]
    """By the hex of each link that is there: whether it was asked for."""
    weight: int


@dataclass(slots=True, eq=False)
class _Directory:
    since: float
    """When the first of these look-ups was."""
    lookups: int = 0
    not_before: float = float("-inf")


@dataclass(slots=True, eq=False)
class _Flight:
    """A listing that is under way."""

    begun: float
    deadline: float
    """By the machine's clock, for who waits."""
    done: threading.Event = field(default_factory=threading.Event)
    changed: set[str] = field(default_factory=set)
    void: bool = False


class ListedLinks:
    """Thread-safe. `believed` is for how many seconds after its beginning a listing is; if not more than 0,
    nothing is ever listed.
    """

    def __init__(self, believed: float, clock: Callable[[], float]) -> None:
        self._believed = believed
        self._clock = clock
        self._lock = threading.Lock()
        self._listings: Cache[str, _Listing] = Cache(LINKS_REMEMBERED, lambda it: it.weight)
        self._directories: Cache[str, _Directory] = Cache(DIRECTORIES_REMEMBERED)
        self._flights: dict[str, _Flight] = {}
        self._not_before = float("-inf")

    def content(self, key: str) -> bytes | None:
        """What the link holds, if a listing that is believed shows it."""
        place = layout.link_place(key)
        if place is None:
            return None
        with self._lock:
            listing = self._believed_listing(place.directory)
            if listing is None or place.hex not in listing.spared:
                return None
            listing.spared[place.hex] = True
        return f"{place.algorithm}:{place.hex}".encode()

    def denies(self, key: str, until: float) -> bool:
        """Whether a listing that is believed for longer than `until` does not show a link."""
        place = layout.link_place(key)
        if place is None:
            return False
        with self._lock:
            listing = self._believed_listing(place.directory)
            return (
                listing is not None
                and listing.whole
                and listing.until > until
                and place.hex not in listing.spared
            )

    def learn(self, key: str, driver: Driver) -> bool:
        """Before a look-up: whether a listing has come, so that content() may know now."""
        place = layout.link_place(key)
        if place is None or self._believed <= 0:
            return False
        directory = place.directory
        with self._lock:
            flight = self._flights.get(directory)
            begins = flight is None and self._pays(directory)
            if begins:
                flight = _Flight(self._clock(), time.monotonic() + PATIENCE)
                self._flights[directory] = flight
        if flight is None:
            return False
        if begins:
            self._begin(directory, flight, driver)
        return flight.done.wait(max(0.0, flight.deadline - time.monotonic()))

    def forget(self, keys: Iterable[str], below: str = "") -> None:
        """What was changed, after the change."""
        places = [place for key in keys if (place := layout.link_place(key)) is not None]
        if not places and not below:
            return
        with self._lock:
            for place in places:
                if (flight := self._flights.get(place.directory)) is not None:
                    flight.changed.add(place.hex)
                if (listing := self._listings.get(place.directory)) is not None:
                    listing.spared.pop(place.hex, None)
            if below:
                for directory in self._listings.entries():
                    if _meet(directory, below):
                        self._listings.drop(directory)
                for directory, flight in self._flights.items():
                    flight.void |= _meet(directory, below)

    def _believed_listing(self, directory: str) -> _Listing | None:
        listing = self._listings.get(directory)
        return listing if listing is not None and listing.until > self._clock() else None

    def _pays(self, directory: str) -> bool:
        """Count a look-up; whether a listing is to take its place."""
        now = self._clock()
        known = self._directories.get(directory)
        if known is None:
            known = _Directory(now)
            self._directories.put(directory, known)
        if now - known.since > self._believed:
            known.since, known.lookups = now, 0
        known.lookups += 1
        if now < max(known.not_before, self._not_before):
            return False
        last = self._listings.get(directory)
        paid = last is not None and last.until <= now and sum(last.spared.values()) >= WORTH
        return known.lookups >= (2 if paid else WORTH)

    def _begin(self, directory: str, flight: _Flight, driver: Driver) -> None:
        """In a thread of its own: who asks need not wait for as long as a store may be silent."""
        run = threading.Thread(
            target=self._run, args=(directory, flight, driver), name="links", daemon=True
        )
        try:
            run.start()
        except RuntimeError as error:  # there are too many threads already
            self._end(directory, flight, None)
            self._give_up(directory, error)

    def _run(self, directory: str, flight: _Flight, driver: Driver) -> None:
        listing = None
        try:
            listing = self._list(directory, flight.begun, driver)
        except DriverError as error:
            self._give_up(directory, error)
        finally:
            self._end(directory, flight, listing)

    def _list(self, directory: str, begun: float, driver: Driver) -> _Listing:
        algorithm = directory.rpartition("/")[2]
        there: dict[str, bool] = {}
        listed = 0
        for info in islice(driver.walk(directory), LIMIT):
            listed += 1
            place = layout.link_place(info.key)
            if place is None or place.directory != directory:
                continue
            try:
                expected = links.encode(Digest(algorithm, place.hex))
            except DigestInvalid:
                continue
            if info.size == len(expected):
                there[place.hex] = False
        return _Listing(begun + self._believed, listed < LIMIT, there, len(there) + 1)

    def _end(self, directory: str, flight: _Flight, listing: _Listing | None) -> None:
        with self._lock:
            del self._flights[directory]
            known = self._directories.get(directory)
            if known is not None:
                known.since, known.lookups = flight.begun, 0
            if listing is not None and not flight.void:
                for changed in flight.changed:
                    listing.spared.pop(changed, None)
                self._listings.put(directory, listing)
            late = time.monotonic() > flight.deadline
            cut = listing is not None and not listing.whole
            if known is not None and (late or cut):
                known.not_before = self._clock() + PAUSE
        if late or cut:
            log.debug(
                "%s is not listed for %d s: %s. Its links are looked up one by one",
                directory,
                PAUSE,
                "it has too many links" if cut else "that takes too long",
            )
        flight.done.set()

    def _give_up(self, directory: str, error: Exception) -> None:
        """Of all directories: what one listing met, the next is likely to meet."""
        with self._lock:
            self._not_before = self._clock() + PAUSE
        log.debug(
            "%s could not be listed, so links are looked up one by one for %d s: %s",
            directory,
            PAUSE,
            error,
        )


def _meet(directory: str, below: str) -> bool:
    """Whether one is the other, or below it."""
    ours, theirs = f"{directory}/", f"{below}/"
    return ours.startswith(theirs) or theirs.startswith(ours)
