"""What the writers of one process share, and what they have found out about the store."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from storage.driver_errors import Busy
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.collecting import Collector
from storage.drivers.s3.memory import Budget
from storage.drivers.s3.settings import MEBIBYTE, S3Settings
from storage.per_process import PerProcess, threads

TELLING = 8 * MEBIBYTE
"""Bytes: smaller copies say little of how the store makes them."""

BY_REFERENCE = 500 * MEBIBYTE
"""Bytes a second: a store that makes a copy faster than this has copied none of its bytes."""


TEDIOUS = 5.0
"""Seconds: a copy in parts, which are made at once, takes less."""


@dataclass(slots=True)
class Abilities:
    """True until the store has refused it, said it does not know it, or done something else."""

    conditions: bool = True  # If-None-Match: * of what is published
    copy: bool = True
    part_copy: bool = True
    copies_by_reference: bool = False
    """Whether a copy takes no longer, however large: then one request is better than one for each part."""

    def copied(self, size: int, seconds: float) -> None:
        """Learn from a copy in one request. One that was too fast for copied bytes is proof; one that was
        slow is none, for the store may have been busy, unless it was long in the way.
        """
        if size >= TELLING and size > BY_REFERENCE * seconds:
            self.copies_by_reference = True
        elif seconds > TEDIOUS:
            self.copies_by_reference = False


@dataclass(slots=True, eq=False)
class Taken:
    """A growing object while a writer of this process has it."""

    key: str
    opened: float = field(default_factory=time.time)
    deleted: bool = False


class Writers:
    """Which growing objects have a writer in this process.

    Writers of other processes are not known: to exclude them a store would need locks, and a request
    for each. They do no harm to each other, as growing.py says.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, Taken] = {}

    def take(self, key: str) -> Taken:
        with self._lock:
            if key in self._taken:
                raise Busy(f"write to {key}: another writer has it")
            taken = self._taken[key] = Taken(key)
            return taken

    def let_go(self, taken: Taken) -> None:
        with self._lock:
            if self._taken.get(taken.key) is taken:
                del self._taken[taken.key]

    def find(self, key: str) -> Taken | None:
        return self._taken.get(key)

    def delete_below(self, prefix: str) -> None:
        """Tell the writers below `prefix`, which ends with a slash, that their objects are gone."""
        with self._lock:
            for key in [key for key in self._taken if key.startswith(prefix)]:
                self._taken.pop(key).deleted = True


class Workshop:
    def __init__(self, settings: S3Settings, bucket: Bucket) -> None:
        self.settings = settings
        self.bucket = bucket
        self.abilities = Abilities()
        self._senders = threads(settings.uploadmaxconcurrency, "s3-upload")
        self._copiers = threads(settings.multipartcopymaxconcurrency, "s3-copy")
        self._budget = PerProcess(lambda: Budget(settings.uploadmemory))
        self._collector = PerProcess(lambda: Collector(bucket.delete_all))
        self._writers = PerProcess(Writers)

    @property
    def senders(self) -> ThreadPoolExecutor:
        return self._senders.get()

    @property
    def copiers(self) -> ThreadPoolExecutor:
        return self._copiers.get()

    @property
    def budget(self) -> Budget:
        return self._budget.get()

    @property
    def collector(self) -> Collector:
        return self._collector.get()

    @property
    def writers(self) -> Writers:
        return self._writers.get()

    def flush(self) -> None:
        collector = self._collector.peek()
        if collector is not None:
            collector.flush()

    def close(self) -> None:
        """Finish what is under way. Not to be used afterwards."""
        collector = self._collector.peek()
        if collector is not None:
            collector.close()
        for pool in (self._senders.peek(), self._copiers.peek()):
            if pool is not None:
                pool.shutdown()
