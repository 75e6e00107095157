"""What one worker does beside its requests: the upload purge, and the index of the catalog."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass

from registry.streaming import Threads
from storage.catalog_index import CatalogIndex
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.model.errors import RegistryError
from storage.purge import purge

log = logging.getLogger("holdfast.maintenance")

LONGEST_FIRST_WAIT = 600.0
DAY = 24 * 3600.0
RETRY = 60.0


@dataclass(frozen=True, slots=True)
class Purging:
    """All in seconds."""

    age: float
    interval: float
    dry_run: bool = False


async def keep_catalog(index: CatalogIndex, threads: Threads) -> None:
    """Make the index complete at once if it is not, and look again every day; cancel it to stop."""
    await asyncio.sleep(0 if not await _is_complete(index, threads) else random.uniform(0, DAY))
    while True:
        pause = random.uniform(0.8, 1.2) * DAY
        try:
            count = await threads.run(index.rebuild)
            log.info("the catalog's index has been looked over: %d repositories", count)
        except RegistryError as error:
            log.warning(
                "the catalog's index was not looked over, that is tried again: %s", error.__cause__
            )
            pause = RETRY
        await asyncio.sleep(pause)


async def _is_complete(index: CatalogIndex, threads: Threads) -> bool:
    try:
        return await threads.run(index.is_complete)
    except DriverError:
        return False  # whatever it is, the work itself will meet it, and says so


async def purge_uploads(driver: Driver, threads: Threads, purging: Purging) -> None:
    """Remove abandoned uploads now and then, for ever; cancel it to stop.

    The first time comes at random within the interval or ten minutes, so that nodes which start
    together do not all read the same directories together.
    """
    await asyncio.sleep(random.uniform(0, min(LONGEST_FIRST_WAIT, purging.interval)))
    while True:
        try:
            done = await threads.run(purge, driver, age=purging.age, dry_run=purging.dry_run)
            log.info(
                "upload purge: %d removed, %d kept, %d failed", done.removed, done.kept, done.failed
            )
        except RegistryError as error:
            log.warning("upload purge stopped, and comes again later: %s", error.__cause__)
        await asyncio.sleep(purging.interval)
