"""The threads of one worker, in which storage blocks.

A thread cannot be interrupted: a call to an NFS server that went away keeps it for as long as that
lasts. So nobody waits for the storage without end to be told something. A look-up is given up when the
storage has been silent for `patience` seconds, and its thread counts as stuck until it comes back;
while half of the threads are stuck, requests that would only join them are refused at once. The other
half goes on with what was begun.

Whatever may rightly take long, or must not be left half done, is never given up: bodies, commits, and
every other change.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import ParamSpec, TypeVar

from storage.drivers.observed import Record
from storage.model.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("holdfast.storage")

PATIENCE = 30.0


class _Look:
    """When the storage last gave a sign of life in this look-up; until it is asked, when that began."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard = monotonic()


class Threads:
    """`patience` is in seconds."""

    def __init__(self, size: int, patience: float = PATIENCE) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="storage")
        self._patience = patience
        self._bearable = max(1, size // 2)
        self._stuck = 0
        self._lock = threading.Lock()
        self._mine = threading.local()

    @property
    def exhausted(self) -> bool:
        """Whether so many threads are stuck that new requests are refused."""
        return self._stuck >= self._bearable

    def require(self) -> None:
        """Raises Unavailable if exhausted. For the beginning of a request, when nothing is at stake."""
        if self.exhausted:
            raise Unavailable(
                "The registry's storage does not answer, and too many requests wait for it already. "
                "Nothing that was stored is lost; try again in a few seconds."
            )

    def start(
        self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[R]:
        """Begin the operation, with the caller's context variables for the log."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._pool, lambda: context.run(operation, *args, **kwargs))

    async def run(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the operation. If the caller is cancelled, it is cancelled after the operation ended."""
        return await settled(self.start(operation, *args, **kwargs))

    async def look_up(
        self, operation: Callable[[], R], drop: Callable[[R], None] = lambda _: None
    ) -> R:
        """Do an operation that changes nothing, as long as the storage answers its calls.

        Raises Unavailable when the storage has been silent for too long, when no thread was free in
        that time, or at once if exhausted. `drop` is told what an operation that was given up found
        after all, in whatever thread: nobody else is left to close it.
        """
        self.require()
        look = _Look()
        context = contextvars.copy_context()
        call = self._pool.submit(self._look, look, lambda: context.run(operation))
        found = asyncio.wrap_future(call)
        try:
            while not found.done() and (left := look.heard + self._patience - monotonic()) > 0:
                await asyncio.wait([found], timeout=left)
        finally:
            if not found.done():
                found.cancel()
                self._give_up(call, drop)
        if found.cancelled():
            raise Unavailable(
                f"The registry's storage did not answer within {self._patience:g} seconds. Nothing "
                "that was stored is lost; try again in a few seconds."
            )
        return found.result()

    def hearing(self, record: Record) -> Record:
        """The `record` of an ObservedDriver, with each call that ends taken for a sign of life.

        A look-up that makes thousands of calls may so take as long as they do. Without this, `patience`
        is for the whole of it.
        """

        def hear(operation: str, result: str, seconds: float) -> None:
            record(operation, result, seconds)
            look: _Look | None = getattr(self._mine, "look", None)
            if look is not None:
                look.heard = monotonic()

        return hear

    def close(self) -> None:
        """Wait for what was begun, unless something is stuck and would be waited for in vain."""
        self._pool.shutdown(wait=not self._stuck, cancel_futures=True)

    def _look(self, look: _Look, operation: Callable[[], R]) -> R:
        self._mine.look = look
        look.heard = monotonic()
        try:
            return operation()
        finally:
            self._mine.look = None

    def _give_up(self, call: Future[R], drop: Callable[[R], None]) -> None:
        if call.cancel():
            return  # it had not begun
        with self._lock:
            self._stuck += 1

        def ended(call: Future[R]) -> None:
            with self._lock:
                self._stuck -= 1
            if (error := call.exception()) is not None:
                log.info("a look-up that was given up has failed: %s", error.__cause__ or error)
            else:
                drop(call.result())

        call.add_done_callback(ended)


async def settled(future: asyncio.Future[R]) -> R:
    """The future's result. A thread cannot be interrupted, so neither is the wait for it."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
