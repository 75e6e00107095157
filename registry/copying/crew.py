"""The threads of a copy, and what they make of failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

from storage.driver_errors import DriverError, NoSpace
from storage.driver_errors import Unavailable as StoreUnavailable
from storage.model.errors import StorageFull
from storage.model.errors import Unavailable as NotNow

T = TypeVar("T")
R = TypeVar("R")

PAUSES: Final = (0.5, 3.0, 10.0)
"""Seconds before each further attempt."""
HOPELESS: Final = 50
"""Failures one after the other, without a success in between, after which the storage counts as gone."""


class Stopped(Exception):
    """Somebody asked the copy to end."""


class GivenUp(Exception):
    """A sentence: the copy cannot go on."""


class Crew:
    """`jobs` threads for the work, and some that each look after one repository and wait for those.

    Work never waits for other work, so the two kinds cannot wait for each other in a circle.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.stop = threading.Event()
        self._workers = ThreadPoolExecutor(jobs, thread_name_prefix="copy")
        self._overseers = ThreadPoolExecutor(min(jobs, 8), thread_name_prefix="copy-repository")
        self._failures = 0

    @property
    def workers(self) -> ThreadPoolExecutor:
        return self._workers

    def each(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Do it for each, many at once. Raises the first error, the rest being given up."""
        self._spread(self._workers, self.jobs * 4, work, items)

    def oversee(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """As each(), for work that calls each() itself. Few items are held at once."""
        self._spread(self._overseers, min(self.jobs, 8) + 1, work, items)

    def _spread(
        self,
        pool: ThreadPoolExecutor,
        window: int,
        work: Callable[[T], None],
        items: Iterable[T],
    ) -> None:
        pending: set[Future[None]] = set()
        try:
            for item in items:
                self.check()
                if len(pending) >= window:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                pending.add(pool.submit(work, item))
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        except BaseException:  # Ctrl-C, too: else the threads would finish all that is waiting
            self.stop.set()
            for future in pending:
                future.cancel()
            raise

    def patiently(self, attempt: Callable[[], R]) -> R:
        """`attempt()`, again if the storage did not answer. It must be safe to repeat.

        Raises what it raised last; GivenUp when nothing works any more, or the target is full.
        """
        for pause in (*PAUSES, None):
            self.check()
            try:
                result = attempt()
                self._failures = 0
                return result
            except (NoSpace, StorageFull) as error:
                raise GivenUp(
                    f"The target is full ({said_of(error)}). Make room there, and run the same command "
                    "again: what is copied stays."
                ) from error
            except (StoreUnavailable, NotNow) as error:
                self._failures += 1
                if self._failures >= HOPELESS:
                    raise GivenUp(
                        f"The storage fails again and again ({said_of(error)}). Run the same command "
                        "again when it is back: what is copied stays."
                    ) from error
                if pause is None:
                    raise
                if self.stop.wait(pause):
                    raise Stopped from error
        raise AssertionError("the last pause is None")

    def check(self) -> None:
        """Raises Stopped."""
        if self.stop.is_set():
            raise Stopped

    def close(self) -> None:
        """Wait for what is under way, which ends soon after `stop` is set."""
        for pool in (self._overseers, self._workers):
            pool.shutdown(cancel_futures=True)


def said_of(error: Exception) -> str:
    """In one line; the driver's words where a store's error covers them."""
    cause = error.__cause__ if isinstance(error.__cause__, DriverError) else error
    return " ".join(str(cause).split())
