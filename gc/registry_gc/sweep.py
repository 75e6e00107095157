"""Removing what was condemned long enough ago and confirmed since, chunk by chunk.

    announce the chunk -> wait until no push is left that has not seen it -> look for notes of pushes
    that rely on it -> remove the rest, by removals that are void if they come late -> take it back

docs/garbage-collection.md says why each step is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice

from registry_gc.options import Options
from registry_gc.outcome import CollectionStopped
from registry_gc.publishing import Publisher
from registry_gc.report import Report
from registry_gc.store_clock import store_time
from storage import layout
from storage.collection import entries, journal
from storage.collection.entries import Entry, Parsed
from storage.collection.journal import Removal
from storage.driver import Discarder, Driver
from storage.driver_errors import DriverError, ObjectNotFound, Unavailable, Void

log = logging.getLogger("holdfast.collection")

ANNOUNCEMENTS = 3
RESOLUTION = 2.0
"""Seconds by which a store may round its times."""


@dataclass(frozen=True, slots=True)
class Due:
    """One entry to remove."""

    entry: Entry
    first: float
    """When it was first condemned."""
    size: int
    links: tuple[str, ...]

    @property
    def is_blob(self) -> bool:
        return entries.parse(self.entry).repository is None

    def encode(self) -> str:
        return "\t".join([self.entry, repr(self.first), str(self.size), *self.links])

    @classmethod
    def decode(cls, line: str) -> Due:
        entry, first, size, *links = line.split("\t")
        return cls(entry, float(first), int(size), tuple(links))


@dataclass(slots=True)
class _Result:
    removed: bool = False
    links: int = 0
    unknown: bool = False


class Sweep:
    def __init__(
        self,
        driver: Driver,
        publisher: Publisher,
        options: Options,
        pool: Executor,
        report: Report,
    ) -> None:
        self._driver = driver
        self._publisher = publisher
        self._options = options
        self._pool = pool
        self._report = report
        self.removing = False
        """Whether removals were asked for that may not have taken effect yet."""

    def run(self, due: Iterable[Due], done: Callable[[int], None]) -> None:
        """Raises CollectionStopped or the driver's errors.

        What was announced then stands, until the nodes believe it void or the next run takes it over.
        `done` is told after each chunk how many it had.
        """
        for chunk in _chunks(due, self._options.chunk):
            self._sweep(chunk)
            done(len(chunk))
            self._options.progress("blobs removed", self._report.blobs_removed, None)

    def _sweep(self, chunk: Sequence[Due]) -> None:
        doomed_at = self._announce(chunk)
        self._publisher.require()
        notes = keep_notes(self._driver)
        staying = [each for each in chunk if relied_on(each.entry, each.first, notes)]
        self._report.saved += len(staying)
        going = [each for each in chunk if each not in set(staying)]
        going = [
            each
            for each, goes in zip(going, self._pool.map(self._is_untouched, going), strict=True)
            if goes
        ]
        parsed = {each: entries.parse(each.entry) for each in going}
        manifests = [where for where in parsed.values() if where.repository is not None]
        journal.record(
            self._driver,
            [
                Removal(where.repository, where.digest, run=self._publisher.run)
                for where in manifests
                if where.repository is not None
            ],
        )
        void = self._options.timing.void
        discarder = self._driver.discarder(self._publisher.run, since=doomed_at, lifetime=void)
        self.removing = True
        results = [*self._pool.map(lambda each: _remove(discarder, each, parsed[each]), going)]
        for each, result in zip(going, results, strict=True):
            self._count(each, result)
        if any(result.unknown for result in results):
            self._outlast(doomed_at)
        self.removing = False
        self._publisher.publish()
        for where in manifests:
            self._tidy(where)

    def _announce(self, chunk: Sequence[Due]) -> float:
        """When, by the store's clock; after this no push relies on the chunk unseen."""
        timing = self._options.timing
        for _ in range(ANNOUNCEMENTS):
            doomed_at = self._publisher.publish(doomed=[each.entry for each in chunk])
            self.wait()
            if (
                store_time(self._driver)
                <= doomed_at + timing.wait * (1 + timing.drift) + timing.margin
            ):
                return doomed_at
            log.warning("this machine was held up, so the removal is announced anew")
        raise CollectionStopped(
            "This machine is held up again and again for longer than a removal may take. Nothing more "
            "was removed; run the collector where it is not suspended."
        )

    def wait(self) -> None:
        """Until every push that has not seen the last publication is over."""
        timing = self._options.timing
        seconds = timing.wait * (1 + timing.drift)
        self._options.progress(
            "seconds to wait for pushes that are under way", round(seconds), None
        )
        self._options.clock.sleep(seconds)

    def _is_untouched(self, due: Due) -> bool:
        """A courtesy to writers that do not know of notes, such as another registry on the tree."""
        try:
            return (
                self._driver.stat(entries.parse(due.entry).key).modified <= due.first + RESOLUTION
            )
        except ObjectNotFound:
            return bool(due.links)

    def _count(self, due: Due, result: _Result) -> None:
        self._report.links_removed += result.links
        if result.removed and due.is_blob:
            self._report.blobs_removed += 1
            self._report.bytes_freed += due.size
        elif result.removed:
            self._report.manifests_removed += 1

    def _outlast(self, doomed_at: float) -> None:
        """Return when no removal of this run can take effect any more. Raises where the run is over."""
        timing = self._options.timing
        if not self._driver.discards_expire:
            self._driver.end_discards(self._publisher.run)
            self.removing = False
            raise Unavailable(
                "a removal was not answered, so this run has ended its removals; the next goes on"
            )
        while (left := doomed_at + timing.void + RESOLUTION - store_time(self._driver)) > 0:
            self._options.clock.sleep(left * (1 + timing.drift))

    def _tidy(self, where: Parsed) -> None:
        """What only points to a manifest that is gone counts as absent already; this saves the room."""
        if where.repository is not None:
            if self._options.retention.needs_pulls:
                mark = layout.pulled_by_digest(where.repository, where.digest)
                self._driver.delete_many([mark])
            self._driver.prune(layout.revision_directory(where.repository, where.digest))


def _remove(discarder: Discarder, due: Due, where: Parsed) -> _Result:
    """Links before what they name, so that no link is left naming nothing."""
    result = _Result()
    try:
        for key in due.links:
            result.links += discarder.discard(key)
        result.removed = discarder.discard(where.key)
    except Void as error:
        log.warning("%s stays: %s", due.entry, error)
    except DriverError as error:
        log.warning("whether %s was removed is not known: %s", due.entry, error)
        result.unknown = True
    return result


def keep_notes(driver: Driver) -> dict[str, float]:
    """The newest note for each entry, by the entry's name."""
    notes: dict[str, float] = {}
    for info in driver.walk(layout.KEPT):
        name = info.key.split("/")[-2]
        notes[name] = max(info.modified, notes.get(name, info.modified))
    return notes


def relied_on(entry: Entry, first: float, notes: Mapping[str, float]) -> bool:
    """Whether a push has relied on the entry since it was condemned."""
    if not notes:
        return False
    noted = notes.get(entries.name_of(entry))
    return noted is not None and noted >= first - RESOLUTION


def _chunks(due: Iterable[Due], size: int) -> Iterator[Sequence[Due]]:
    iterator = iter(due)
    while chunk := [*islice(iterator, size)]:
        yield chunk
