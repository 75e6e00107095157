"""A request's body on its way from the socket to the application.

Bytes are received where the application will read them: `room` says where the next ones go, `took` that
they are there, and `skip` that something is there which is not the body's, such as the line between two
chunks. So they come to the application in a few large pieces. Reading from the socket pauses while `window`
bytes are held here, so a slow application costs the client patience and the server no memory.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from registry.streaming import ClientGone

from .blocks import BETWEEN, Blocks
from .refusals import Refusal

WINDOW: Final = 256 * 1024
FIRST_BLOCK: Final = 64 * 1024
"""Bytes received into one block at first, before there is a batch to fill: most bodies are short."""
_OVER: Final = 16 * 1024
"""Bytes that may be received at once though the window is smaller."""
_PIECE_COST: Final = 64
"""What a piece costs in memory beside its bytes: a client may send them one at a time."""


class Source(Protocol):
    """What a body needs of its connection."""

    loop: asyncio.AbstractEventLoop

    @property
    def blocks(self) -> Blocks: ...

    def body_wanted(self, body: RequestBody) -> None:
        """The application waits: let bytes come, and the clock run."""

    def body_comes(self) -> None:
        """Something arrived, though perhaps not enough: the silence begins anew."""

    def body_came(self) -> None:
        """The application no longer waits."""

    def body_taken(self) -> None:
        """There may be room to read on."""


_NO_BLOCK: Final = memoryview(b"")


class RequestBody:
    """`registry.streaming.Body`, and what the connection fills it by."""

    __slots__ = (
        "_begin",
        "_block",
        "_end",
        "_held",
        "_pieces",
        "_source",
        "_waiter",
        "batch",
        "complete",
        "discarding",
        "expected",
        "expects_continue",
        "failed",
        "received",
        "refusal",
        "window",
    )

    def __init__(self, source: Source, expected: int | None, *, expects_continue: bool) -> None:
        self._source = source
        self._pieces: list[bytes | memoryview] = []
        self._block = _NO_BLOCK
        self._begin = self._end = 0  # of what is in the block and not yet among the pieces
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self.expected = expected
        self.received = 0
        self.window = WINDOW
        self.batch = 1
        self.complete = expected == 0
        self.failed = False
        self.refusal: Refusal | None = None
        self.discarding = False
        self.expects_continue = expects_continue
        """The client waits for 100 Continue before it sends anything."""

    async def read(self, limit: int) -> list[bytes | memoryview]:
        """At least `batch` bytes, or what is left; at most about `limit`; [] at the end.

        What arrived is handed out before ClientGone is raised, which is when the client disconnects,
        falls silent or breaks the framing before the end. One reader at a time.
        """
        if not self._enough():
            await self._arrival()
        self._seal()
        if self._pieces:
            return self._take(limit)
        if self.failed:
            raise ClientGone("the request's body ended early")
        return []

    def _enough(self) -> bool:
        return self.complete or self.failed or self._held >= self.batch or self.full

    @property
    def drained(self) -> bool:
        """Complete, and all of it handed out."""
        return self.complete and not self._pieces and self._begin == self._end

    @property
    def full(self) -> bool:
        return self._held + len(self._pieces) * _PIECE_COST >= self.window

    @property
    def waiting(self) -> bool:
        return self._waiter is not None

    def remaining(self) -> int | None:
        """Bytes still to come from the client; None if nobody knows."""
        if self.complete:
            return 0
        return None if self.expected is None else self.expected - self.received

    def feed(self, data: bytes) -> None:
        """Take bytes that nobody will change."""
        self.received += len(data)
        if self.discarding:
            return
        self._seal()
        self._pieces.append(data)
        self._held += len(data)
        self.arrived()

    def within_window(self) -> memoryview:
        """What `room` gives, but for what goes well beyond the window. Never empty: a window may shrink."""
        return self.room()[: max(_OVER, self.window - self._held)]

    def room(self) -> memoryview:
        """Where its next bytes may be put, by whoever then calls `took`. Never empty."""
        left = self.remaining()
        if self._end == len(self._block):
            self._leave_block()  # it may be the one that is free then
            size = max(FIRST_BLOCK, self.batch if self.received else 0)
            size = size + BETWEEN if left is None else min(size, left)
            self._block = self._source.blocks.take(size)
        return self._block[self._end :][:left]

    def took(self, count: int) -> None:
        """So many bytes have been put where `room` said."""
        self.received += count
        self._end += count
        self._held += count

    def skip(self, count: int) -> None:
        """So many bytes have been put where `room` said that are not the body's."""
        self._seal()
        self._end += count
        self._begin = self._end

    def copy(self, data: memoryview) -> None:
        """Take bytes from memory that will be used again. `arrived` must be called after the last."""
        if self.discarding:
            self.received += len(data)
            return
        while data:
            room = self.room()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.took(count)
            data = data[count:]

    def arrived(self) -> None:
        """Tell whoever waits for the bytes."""
        if self._waiter is not None:
            self._source.body_comes()
            if self._enough():
                self._wake()

    def finish(self) -> None:
        self.complete = True
        self._leave_block()
        self._wake()

    def fail(self, refusal: Refusal | None) -> None:
        """No more will come; `refusal` is the answer if the application has begun none."""
        if not self.complete and not self.failed:
            self.failed = True
            self.refusal = refusal
            self._leave_block()
            self._wake()

    def discard(self) -> None:
        """Nobody will read it: keep nothing."""
        self.discarding = True
        self._leave_block()
        self._pieces.clear()
        self._held = 0

    def _seal(self) -> None:
        """Put what has been received into the block among the pieces; its rest may still be used."""
        if self._begin < self._end:
            self._pieces.append(self._block[self._begin : self._end])
            self._begin = self._end

    def _leave_block(self) -> None:
        """The block is free as soon as those who were given pieces of it are done."""
        self._seal()
        self._block = _NO_BLOCK
        self._begin = self._end = 0

    async def _arrival(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("the body of a request has two readers")
        self._waiter = self._source.loop.create_future()
        self._source.body_wanted(self)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._source.body_came()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self, limit: int) -> list[bytes | memoryview]:
        pieces = self._pieces
        if self._held <= limit:
            self._pieces = []
            self._held = 0
        else:
            size = count = 0
            for piece in pieces:
                if count and size + len(piece) > limit:
                    break
                count += 1
                size += len(piece)
            self._held -= size
            self._pieces = pieces[count:]
            del pieces[count:]
        self._source.body_taken()
        return pieces
