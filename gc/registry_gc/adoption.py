"""Taking over what earlier runs condemned, from those that ended and those that died.

Only the times of the first condemnation are taken: that what was condemned is garbage still is for this
run to confirm. A run that seems to be alive is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from registry_gc.ledger import Condemned, Ledger
from registry_gc.spill import SHARDS
from registry_gc.store_clock import store_time
from storage import layout
from storage.collection.publication import Name, Publication, decode, listed, newest
from storage.collection.timing import Timing
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound


@dataclass(frozen=True, slots=True)
class Others:
    """The other runs of a storage, at one look."""

    names: Sequence[Name]
    """Every publication of those that may be taken over."""
    finished: Sequence[Publication]
    active: Sequence[str]
    """Runs that seem to be at work."""

    @property
    def lists(self) -> list[str]:
        return [key for publication in self.finished for key in publication.lists]


def look(driver: Driver, timing: Timing, own: str = "") -> Others:
    """Raises the driver's errors; publication.Unreadable for what a newer version has written."""
    names = [name for name in listed(driver) if name.run != own]
    now = store_time(driver) if names else 0.0
    finished, active = [], []
    for name in newest(names).values():
        try:
            publication = decode(name, driver.read(name.key))
            modified = driver.stat(name.key).modified
        except ObjectNotFound:  # it has published anew this moment, so it lives
            active.append(name.run)
            continue
        if publication.idle or now - modified > 2 * timing.stale:
            finished.append(publication)
        else:
            active.append(name.run)
    mine = [name for name in names if name.run not in active]
    return Others(mine, finished, active)


def look_only(driver: Driver) -> Others:
    """As look(), without a write, so without the store's time: all runs count as finished."""
    finished = []
    for name in newest(listed(driver)).values():
        with suppress(ObjectNotFound):
            finished.append(decode(name, driver.read(name.key)))
    return Others([], finished, [])


def fence(driver: Driver, others: Others) -> None:
    """After this none of them removes anything more."""
    for publication in others.finished:
        driver.write(layout.fenced(publication.run), b"")
        driver.end_discards(publication.run)


def merge(driver: Driver, others: Others, ledger: Ledger) -> None:
    """Write what they condemned as one list of this run."""
    condemned = Condemned(driver, others.lists)
    for shard in range(SHARDS):
        ledger.add(shard, condemned.shard(shard))
    ledger.close()


def are_published(driver: Driver, others: Others) -> bool:
    """Whether the newest publication of each of them is still there."""
    try:
        for publication in others.finished:
            driver.stat(publication.key)
    except ObjectNotFound:
        return False
    return True


def retire(driver: Driver, others: Others, *, needed: str = "") -> None:
    """Remove their publications: exactly those that were looked at, then what only these named.

    `needed`: the key of a look that this run goes on with.
    """
    driver.delete_many([name.key for name in others.names])
    kept = layout.run_of(needed)
    for run in {each.run for each in others.finished} | {
        layout.run_of(each.look) for each in others.finished if each.look
    }:
        if run != kept:
            driver.delete_tree(layout.run_directory(run))
