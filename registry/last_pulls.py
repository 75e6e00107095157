"""When each tag was last pulled, to the day, for retention rules that ask for it.

Clients pull by tag; or they ask for the digest of a tag and pull by that, and not even that if they have it
already. So a HEAD of a tag counts, and so does a GET by digest, for whatever tags name it.

A pull costs a look into a dictionary. What is new is written once a minute by each worker, at most once a
day for each, and lost if the worker dies before: a tag that is in use is pulled again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from registry.streaming import Threads
from storage import layout
from storage.driver import Driver
from storage.driver_errors import DriverError, ObjectNotFound
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

log = logging.getLogger("holdfast.maintenance")

DAY = 86400.0
EVERY = 60.0
"""Seconds from one writing to the next, and as much as half of that more or less."""
REMEMBERED = 100_000

Pulled = tuple[RepositoryName, Tag | Digest]


class LastPulls:
    """Of one worker; note() on the event loop, the rest in threads."""

    def __init__(self, driver: Driver, clock: Callable[[], float] = time.time) -> None:
        self._driver = driver
        self._clock = clock
        self._noted: dict[Pulled, int] = {}
        self._pending: set[Pulled] = set()

    def note(self, name: RepositoryName, reference: Tag | Digest) -> None:
        each, today = (name, reference), int(self._clock() // DAY)
        if self._noted.get(each) == today:
            return
        if len(self._noted) >= REMEMBERED:
            self._noted.clear()  # the storage knows what was written today
        self._noted[each] = today
        self._pending.add(each)

    async def keep_writing(self, threads: Threads) -> None:
        """For ever; cancel it to stop."""
        while True:
            await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))
            await threads.run(self.write)

    def write(self) -> None:
        """Write what is new. What the storage refuses is noted again at the next pull."""
        pending, self._pending = self._pending, set()
        try:
            self._begin()
        except DriverError as error:
            log.warning("last pulls are not noted for now: %s", error)
            self._forget(pending)
            return
        failed = set()
        for each in pending:
            try:
                self._write(_mark(*each))
            except DriverError as error:
                failed.add(each)
                log.warning("the last pull of %s, %s, is not noted: %s", *each, error)
        self._forget(failed)

    def _begin(self) -> None:
        """What was pulled before this is not known; retention counts with that."""
        try:
            self._driver.stat(layout.PULLS_SINCE)
        except ObjectNotFound:
            self._driver.write(layout.PULLS_SINCE, b"")

    def _write(self, key: str) -> None:
        try:
            if self._clock() - self._driver.stat(key).modified < DAY / 2:
                return  # another worker was faster
        except ObjectNotFound:
            pass
        self._driver.write(key, b"")

    def _forget(self, each: set[Pulled]) -> None:
        for one in each:
            self._noted.pop(one, None)


def _mark(name: RepositoryName, reference: Tag | Digest) -> str:
    if isinstance(reference, Tag):
        return layout.pulled(name, reference)
    return layout.pulled_by_digest(name, reference)
