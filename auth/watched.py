"""A file of the operator that is read again when it changes, and never replaced by a broken one.

What was read last without an error stays in force. The file is looked at by refresh() only, so that
whoever asks for the content never waits for a disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeAlias, TypeVar

log = logging.getLogger("holdfast.auth")

T = TypeVar("T")
Clock: TypeAlias = Callable[[], float]

INTERVAL: Final = 1.0
"""Seconds between two looks at a file."""

LIMIT: Final = 4 * 1024 * 1024

_FRESH: Final = 2.0  # seconds in which a file may change once more and keep its time stamp


class Unusable(Exception):
    """The file cannot be used; `problems` says everything that is wrong, a sentence each."""

    def __init__(self, path: str, problems: list[str]) -> None:
        super().__init__(f"{path}: " + " ".join(problems))
        self.path = path
        self.problems = tuple(problems)


class WatchedFile(Generic[T]):
    """`parse` raises ValueError, or Unusable to say several things at once."""

    def __init__(
        self,
        path: str,
        parse: Callable[[bytes], T],
        *,
        what: str,
        interval: float = INTERVAL,
        clock: Clock = time.monotonic,
    ) -> None:
        """Reads the file. Raises Unusable if it cannot be used: there is no last good one yet."""
        self.path = path
        self.problem: str | None = None
        """Why the content in force is not the file's, for the log and whoever runs the registry."""
        self._parse = parse
        self._what = what
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._signature: tuple[int, ...] = ()
        self._digest = b""
        self._looked = clock()
        data, self._signature = self._read()
        self._digest = hashlib.sha256(data).digest()
        self.content: T = self._parsed(data)
        self.loaded = 1
        """How often a content was taken over; changes with it."""

    def refresh(self) -> None:
        """Look whether the file has changed, unless that was done a moment ago. Blocks; never raises."""
        if not self._due() or not self._lock.acquire(blocking=False):
            return  # whoever holds the lock is looking now
        try:
            self._looked = self._clock()
            self._look()
        finally:
            self._lock.release()

    async def refreshed(self) -> None:
        """Refresh() in a thread, for one caller at a time; the others go on with what there is."""
        if self._due() and not self._lock.locked():
            await asyncio.to_thread(self.refresh)

    def _due(self) -> bool:
        return self._clock() - self._looked >= self._interval

    def _look(self) -> None:
        try:
            if self._signature and self._signature == _signature(os.stat(self.path)):
                return
            data, self._signature = self._read()
            digest = hashlib.sha256(data).digest()
            if digest == self._digest and self.problem is None:
                return
            content = self._parsed(data)
        except OSError as error:
            self._failed(f"cannot be read: {error.strerror or error}.")
        except Unusable as error:
            self._failed(" ".join(error.problems))
        else:
            self.content, self._digest = content, digest
            self.loaded += 1
            self.problem = None
            log.info("%s %s was read again.", self._what, self.path)

    def _failed(self, reason: str) -> None:
        problem = f"{self._what} {self.path}: {reason} What was read before stays in force."
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem

    def _read(self) -> tuple[bytes, tuple[int, ...]]:
        try:
            with open(self.path, "rb") as file:
                data = file.read(LIMIT + 1)
                info = os.fstat(file.fileno())
        except OSError as error:
            raise Unusable(self.path, [f"cannot be read: {error.strerror or error}."]) from None
        if len(data) > LIMIT:
            raise Unusable(self.path, [f"is larger than {LIMIT // 1024 // 1024} MiB."])
        settled = abs(time.time() - info.st_mtime) > _FRESH
        return data, _signature(info) if settled else ()

    def _parsed(self, data: bytes) -> T:
        try:
            return self._parse(data)
        except Unusable as error:
            raise Unusable(self.path, list(error.problems)) from None
        except ValueError as error:
            raise Unusable(self.path, [str(error)]) from None


def _signature(info: os.stat_result) -> tuple[int, ...]:
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
