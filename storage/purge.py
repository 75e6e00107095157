"""Removal of uploads that nobody goes on with.

An upload is as old as its newest byte, never as its start: a slow one is not an abandoned one. Safe on
any number of nodes at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from storage import layout
from storage.driver import Driver, DriverError
from storage.translation import translated

log = logging.getLogger("holdfast.purge")


@dataclass(frozen=True, slots=True)
class Purged:
    removed: int
    kept: int
    failed: int


@translated
def purge(
    driver: Driver, *, age: float, dry_run: bool = False, now: Callable[[], float] = time.time
) -> Purged:
    """Remove every upload untouched for `age` seconds. One that cannot be removed is passed over."""
    removed = kept = failed = 0
    for prefix in _uploads(driver, layout.REPOSITORIES):
        touched = max((info.modified for info in driver.walk(prefix)), default=0.0)
        if now() - touched < age:
            kept += 1
            continue
        log.info("removing abandoned upload %s%s", prefix, " (dry run)" if dry_run else "")
        if dry_run:
            removed += 1
            continue
        try:
            driver.delete_tree(prefix)
            removed += 1
        except DriverError as error:
            log.warning("abandoned upload %s stays: %s", prefix, error)
            failed += 1
    return Purged(removed, kept, failed)


def _uploads(driver: Driver, directory: str) -> Iterator[str]:
    for child in driver.list(directory):
        if not child.is_prefix:
            continue
        path = f"{directory}/{child.name}"
        if child.name == layout.UPLOADS:
            yield from (f"{path}/{upload.name}" for upload in driver.list(path))
        elif not child.name.startswith("_"):
            yield from _uploads(driver, path)
