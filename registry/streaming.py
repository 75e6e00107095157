"""The only seam between async code and blocking storage, with the threads that it needs.

One operation of the store is one hop to a thread, whatever it does there; `registry/threads.py` has
those. Bulk bytes cross in batches: a hop costs 50 to 150 microseconds, so the batches of an upload are
nearly 1 MiB, smaller only when so many uploads run at once that their memory would not stay within its
budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from registry.threads import Threads as Threads
from registry.threads import settled as settled
from storage.upload_session import Session

BATCH = 960 * 1024
"""Bytes. By a whole MiB a file would grow by folios of a MiB, for which the kernel takes the largest blocks
of free memory; from a virtual machine those are the ones that the host has taken back, and the first write
to such a page takes ten times as long."""
SMALLEST_BATCH = 64 * 1024
BUDGET = 14 * 1024 * 1024
"""Bytes of upload batches per worker, each counted once; it is in use up to four times over:
being written, waiting to be, and twice in what the body holds."""


class ClientGone(Exception):
    """The client went away, or fell silent, before the request was whole."""


class Body(Protocol):
    """A request's body, as the server's protocol offers it (`holdfast.body`)."""

    expected: int | None
    """Content-Length; None if chunked."""
    received: int
    window: int
    """Bytes held before reading from the socket pauses."""
    batch: int
    """Bytes that a read waits for, unless the body ends before; at first 1."""

    async def read(self, limit: int) -> list[bytes | memoryview]:
        """At least `batch` bytes, at most about `limit`; [] at the end. Raises ClientGone.

        What comes is the caller's: nobody writes to it any more.
        """


class Uploading:
    """The uploads that receive a body in this worker now, sharing one memory budget."""

    def __init__(self, threads: Threads, opened: Callable[[int], None]) -> None:
        self._threads = threads
        self._opened = opened
        self._active = 0

    async def receive(self, body: Body, session: Session) -> None:
        """Append a body to an upload, hashing and writing one batch while the next comes in.

        Raises ClientGone, and the storage's errors; what came before is then appended as far as it
        could be.
        """
        self._active += 1
        self._opened(1)
        try:
            await self._receive(body, session)
        finally:
            self._active -= 1
            self._opened(-1)

    async def _receive(self, body: Body, session: Session) -> None:
        writing: asyncio.Future[None] | None = None
        try:
            more = True
            while more:
                batch: list[bytes | memoryview] = []
                size, enough = 0, self._batch()
                # Clients send in small pieces, and a task that wakes for each costs more than they do.
                # The next batch may come while the task wakes for this one.
                body.batch, body.window = enough, 2 * enough
                try:
                    while size < enough and (chunks := await body.read(enough - size)):
                        batch += chunks
                        size += sum(map(len, chunks))
                    more = size >= enough
                except ClientGone:
                    await self._flush(writing, session, batch)
                    writing = None
                    raise
                if writing is not None:
                    await settled(writing)
                writing = self._threads.start(session.append, batch) if batch else None
            if writing is not None:
                await settled(writing)
        except asyncio.CancelledError:
            if writing is not None:
                await asyncio.wait([writing])
            raise

    async def _flush(
        self,
        writing: asyncio.Future[None] | None,
        session: Session,
        batch: list[bytes | memoryview],
    ) -> None:
        if writing is not None:
            await settled(writing)
        if batch:
            await self._threads.run(session.append, batch)

    def _batch(self) -> int:
        return max(SMALLEST_BATCH, min(BATCH, BUDGET // self._active))


async def read_at_most(body: Body, limit: int) -> bytes | None:
    """The whole of a small body, or None as soon as it turns out to be larger than `limit`."""
    if body.expected is not None and body.expected > limit:
        return None
    parts: list[bytes | memoryview] = []
    size = 0
    while chunks := await body.read(limit + 1 - size):
        parts += chunks
        size += sum(map(len, chunks))
        if size > limit:
            return None
    return b"".join(parts)


async def discard(body: Body) -> None:
    while await body.read(BATCH):
        pass
