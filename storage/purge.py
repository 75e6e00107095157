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
from storage.driver import Driver
from storage.driver_errors import DriverError, ObjectNotFound
from storage.model.errors import NameInvalid
from storage.model.reference import RepositoryName
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
    for name, upload_id, touched in _remote(driver) if driver.remote else _local(driver):
        if touched is not None and now() - touched < age:
            kept += 1
            continue
        prefix = layout.upload(name, upload_id)
        log.info("removing abandoned upload %s%s", prefix, " (dry run)" if dry_run else "")
        if dry_run:
            removed += 1
            continue
        try:
            if touched is None:
                driver.prune(prefix)  # if it only just begins, its first file keeps it
            else:
                driver.delete_tree(prefix)
            removed += 1
        except DriverError as error:
            log.warning("abandoned upload %s stays: %s", prefix, error)
            failed += 1
    if not dry_run:
        removed += driver.abort_unfinished(layout.ROOT, before=now() - age)
    return Purged(removed, kept, failed)


_Touched = Iterator[tuple[RepositoryName, str, float | None]]


def _local(driver: Driver) -> _Touched:
    for name, upload_id in _uploads(driver, ""):
        yield name, upload_id, _touched(driver, name, upload_id)


def _remote(driver: Driver) -> _Touched:
    """From one walk of all keys: to ask for the uploads of each repository would take longer."""
    newest: dict[tuple[str, str], float] = {}
    for info in driver.walk(layout.REPOSITORIES):
        name, marked, rest = info.key[len(layout.REPOSITORIES) + 1 :].partition(
            f"/{layout.UPLOADS}/"
        )
        if marked:
            upload = name, rest.partition("/")[0]
            newest[upload] = max(newest.get(upload, 0.0), info.modified)
    for (name, upload_id), touched in newest.items():
        try:
            yield RepositoryName(name), upload_id, touched
        except NameInvalid:
            log.warning("%s is no name of a repository; its uploads stay", name)


def _touched(driver: Driver, name: RepositoryName, upload_id: str) -> float | None:
    """When the newest byte of an upload came; None if it is an empty directory."""
    times = [info.modified for info in driver.walk(layout.upload(name, upload_id))]
    try:
        # Whether walk() shows what is still growing differs between drivers.
        times.append(driver.stat_growing(layout.upload_data(name, upload_id)).modified)
    except ObjectNotFound:
        pass
    return max(times, default=None)


def _uploads(driver: Driver, parent: str) -> Iterator[tuple[RepositoryName, str]]:
    """Every upload of the repositories below `parent`, which is empty or ends with a slash."""
    for child in driver.list(f"{layout.REPOSITORIES}/{parent}".rstrip("/")):
        try:
            name = RepositoryName(f"{parent}{child.name}")
        except NameInvalid:
            continue
        if child.is_prefix:
            for upload in driver.list(layout.uploads(name)):
                yield name, upload.name
            yield from _uploads(driver, f"{name}/")
