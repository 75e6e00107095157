"""The upload purge, beside the requests of one worker."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass

from registry.streaming import Threads
from storage.driver import Driver
from storage.model.errors import RegistryError
from storage.purge import purge

log = logging.getLogger("holdfast.purge")

LONGEST_FIRST_WAIT = 600.0


@dataclass(frozen=True, slots=True)
class Purging:
    """All in seconds."""

    age: float
    interval: float
    dry_run: bool = False


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
