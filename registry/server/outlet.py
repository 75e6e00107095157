"""The sending half of a connection: writes, waiting for room, and giving up on a client that stalls.

Also what only the socket knows.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from concurrent.futures import Executor
from typing import Final

from .context import NEVER, WorkerContext
from .sending import FileSender

logger = logging.getLogger("holdfast.server")

_JOINED: Final = 64 * 1024
"""Pieces up to this size together are copied into one; larger ones are written as a vector."""
_ENCRYPTED: Final = 256 * 1024
"""Bytes encrypted at once. A connection keeps a little more than that until it ends; with a quarter of it a
gigabyte costs a tenth more, with four times as much nothing less.
"""
_RESET: Final = struct.pack("ii", 1, 0)


class Outlet:
    """`registry.server.sending.Wire`. After the connection is lost, nothing here does anything."""

    __slots__ = (
        "_context",
        "_drain",
        "_mark",
        "_secure",
        "_transport",
        "deadline",
        "loop",
        "lost",
        "paused",
        "sender",
    )

    def __init__(
        self, context: WorkerContext, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport
    ) -> None:
        self._context = context
        self._transport = transport
        self._drain: asyncio.Future[None] | None = None
        self._mark = 0
        self._secure = transport.get_extra_info("ssl_object") is not None
        self.loop = loop
        self.deadline = NEVER
        self.lost = False
        self.paused = False
        self.sender: FileSender | None = None

    def write(self, *pieces: bytes) -> None:
        if self.lost:
            return
        if sum(map(len, pieces)) <= _JOINED:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        elif self._secure:
            self._encrypt(pieces)
        else:
            self._transport.writelines([piece for piece in pieces if piece])

    def _encrypt(self, pieces: tuple[bytes, ...]) -> None:
        """In steps: each connection keeps a buffer of the largest that was ever encrypted at once."""
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _ENCRYPTED):
                self._transport.write(view[start : start + _ENCRYPTED])

    def pause(self) -> None:
        """The transport holds more than it wants to."""
        self.paused = True
        self.stalled()

    def resume(self) -> None:
        self.paused = False
        self.moving()
        self._wake()

    async def drained(self) -> None:
        """Until the transport has room again, or the connection is lost."""
        while self.paused and not self.lost:
            if self._drain is None or self._drain.done():
                self._drain = self.loop.create_future()
            await asyncio.shield(self._drain)

    async def flushed(self) -> None:
        """Until the transport has nothing left to write, or the connection is lost."""
        if self.lost or not self._transport.get_write_buffer_size():
            return
        self._transport.set_write_buffer_limits(high=0)
        try:
            await self.drained()
        finally:
            if not self.lost:
                self._transport.set_write_buffer_limits()

    def stalled(self) -> None:
        self._mark = self._unsent()
        self.deadline = self.loop.time() + self._context.settings.write_timeout

    def moving(self) -> None:
        self.deadline = NEVER

    def expired(self) -> None:
        """The deadline is over: look whether the client took anything at all meanwhile."""
        unsent = self._unsent()
        if unsent < self._mark:
            self.stalled()
        else:
            logger.info("ended a connection: its client took none of %d bytes waiting", unsent)
            self.abort()

    def duplicate(self) -> socket.socket:
        duplicate: socket.socket = self._transport.get_extra_info("socket").dup()
        return duplicate

    def file_threads(self) -> Executor:
        return self._context.file_threads

    def close(self) -> None:
        """Close once everything is written, or the client stalls."""
        if not self.lost:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self.stalled()

    def abort(self) -> None:
        """Reset the connection, so that nobody takes this for the end of a response."""
        if not self.lost:
            with self.duplicate() as duplicate:
                duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def lose(self) -> None:
        """The connection is lost."""
        self.lost = True
        self.deadline = NEVER
        self._wake()
        if self.sender is not None:
            self.sender.interrupt()

    def unread(self) -> bool:
        """Whether the client has sent something that has not been read yet."""
        return self._queued(termios.FIONREAD) > 0

    def _unsent(self) -> int:
        """Bytes the client has not taken yet, in the transport and in the kernel."""
        if self.lost:
            return 0  # and its transport must not be asked any more
        return self._transport.get_write_buffer_size() + self._queued(termios.TIOCOUTQ)

    def _queued(self, which: int) -> int:
        if self.lost:
            return 0
        fd = self._transport.get_extra_info("socket").fileno()
        (queued,) = struct.unpack("i", fcntl.ioctl(fd, which, bytes(4)))
        return int(queued)

    def _wake(self) -> None:
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
