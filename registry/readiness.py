"""Whether the storage works, found out in the background and never by a request.

A check that hangs is the failure that hurts most (an NFS server that went away blocks for ever), so
each runs in a thread of its own that nobody waits for at the end of the process, and there is never
more than one: while one hangs, every time limit that passes counts as another failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

from registry.telemetry.logs import get_logger
from registry.telemetry.metrics import metrics
from storage.driver_errors import NoSpace

SHORTEST_LIMIT: Final = 10.0
"""Seconds that a check may always take."""

UNTRIED: Final = "The storage has not been checked yet."
WORKS: Final = "The storage accepts writes."
READS: Final = "The storage can be read; the registry is read-only."
FULL: Final = "The storage is full."
SILENT: Final = "The storage does not answer."
FAILS: Final = "The storage cannot be used; the registry's log says why."

log = get_logger("holdfast.storage")


class StorageProbe:
    """Calls `check` (a driver's) every `interval` seconds.

    Ready from the first success on, not ready after `threshold` failures in a row, ready again after
    one success.
    """

    def __init__(
        self, check: Callable[[], None], *, interval: float, threshold: int, works: str = WORKS
    ) -> None:
        """`works` is what a success means."""
        self._check = check
        self._works = works
        self._interval = interval
        self._limit = max(interval, SHORTEST_LIMIT)
        self._threshold = threshold
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._said: tuple[bool, str] = (False, UNTRIED)
        self.ready = False
        self.reason = UNTRIED
        """A sentence for anybody who asks: no paths, no keys."""

    def start(self) -> None:
        """Begin checking, at once, in the running event loop."""
        if self._task is None:
            metrics().storage_ready(self.ready)
            self._task = asyncio.get_running_loop().create_task(self._run(), name="storage-probe")
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop checking, without waiting for a check that hangs. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            outcome = self._begin()
            while not (await asyncio.wait([outcome], timeout=self._limit))[0]:
                self._failed(SILENT, f"no answer within {self._limit:g} s")
            error = outcome.result()
            if error is None:
                self._succeeded()
            else:
                reason = FULL if isinstance(error, NoSpace) else FAILS
                self._failed(reason, f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._interval)

    def _begin(self) -> asyncio.Future[BaseException | None]:
        """Start one check; the future is what it raised."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[BaseException | None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not outcome.done():
                outcome.set_result(error)

        def run() -> None:
            error: BaseException | None = None
            try:
                self._check()
            except Exception as raised:  # noqa: BLE001 - whatever it is, the storage is not ready
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=run, name="storage-probe", daemon=True).start()
        return outcome

    def _succeeded(self) -> None:
        self._failures = 0
        self.ready, self.reason = True, self._works
        self._changed(None)

    def _failed(self, reason: str, cause: str) -> None:
        self._failures += 1
        if self._failures >= self._threshold:
            self.ready = False
        # While it still counts as ready, the reason tells what is going wrong.
        self.reason = reason
        self._changed(cause)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The end of the probe by a bug must not leave its last answer standing."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ready, self.reason = False, FAILS
            log.critical("the storage probe ended", exc_info=error)

    def _changed(self, cause: str | None) -> None:
        """Log a change once, and what brought it."""
        if self._said == (self.ready, self.reason):
            return
        self._said = (self.ready, self.reason)
        metrics().storage_ready(self.ready)
        if cause is None:
            log.info("storage is ready")
        elif self.ready:
            log.warning("storage check failed", cause=cause, threshold=self._threshold)
        else:
            log.error("storage is not ready", cause=cause, failures=self._failures)
