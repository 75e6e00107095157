"""Files to sockets without their bytes passing through Python.

The loop thread must never wait for a disk. So each window of a file is probed with RWF_NOWAIT at a few
points: resident, and sendfile runs at once on the loop thread, which costs no hop; not resident, or the
filesystem cannot tell, and a thread runs it. The socket is a non-blocking duplicate of the transport's:
it outlives the transport, so a thread never writes to a descriptor that has become another's.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final, Protocol

WINDOW: Final = 1024 * 1024
"""Most bytes sent before other connections get their turn."""
_PROBE_EVERY: Final = 256 * 1024
_SMALL: Final = 64 * 1024
_BLOCKED: Final = -1
_probe_buffer: Final = [bytearray(1)]


class Wire(Protocol):
    """What sending a file needs of its connection."""

    loop: asyncio.AbstractEventLoop
    lost: bool
    sender: FileSender | None

    def duplicate(self) -> socket.socket: ...

    def file_threads(self) -> Executor: ...

    def stalled(self) -> None:
        """The client takes nothing at the moment."""

    def moving(self) -> None:
        """It does again."""


def read_small(file: int, offset: int, count: int) -> bytes | None:
    """A small piece of a file, if it is in memory: then one write with the head beats sendfile."""
    if count > _SMALL:
        return None
    if not count:
        return b""
    buffer = bytearray(count)
    try:
        if os.preadv(file, [buffer], offset, os.RWF_NOWAIT) != count:
            return None
    except OSError:  # not resident, or not supported: the long way will tell, or fail the same
        return None
    return bytes(buffer)


def resident(file: int, offset: int, count: int) -> bool:
    """Whether the bytes look to be in memory. At the end of the file, they do."""
    try:
        for point in (*range(offset, offset + count, _PROBE_EVERY), offset + count - 1):
            os.preadv(file, _probe_buffer, point, os.RWF_NOWAIT)
    except OSError:  # EAGAIN is a no; anything else will show where it may block
        return False
    return True


class FileSender:
    """One use each: `await FileSender(wire, file).send(...)`.

    `file` stays the caller's; it is duplicated before a thread sees it.

    While the file is in memory, windows leave from a callback that the loop makes whenever the socket takes
    more: between two of them no task wakes, and nothing is registered anew.
    """

    __slots__ = (
        "_file",
        "_left",
        "_offset",
        "_own_file",
        "_socket",
        "_thread",
        "_waiter",
        "_wire",
    )

    def __init__(self, wire: Wire, file: int) -> None:
        self._wire = wire
        self._file = file
        self._own_file = -1
        self._socket = wire.duplicate()
        self._waiter: asyncio.Future[None] | None = None
        self._thread: Future[int] | None = None
        self._offset = self._left = 0

    async def send(self, head: bytes, offset: int, count: int) -> None:
        """Send `head` and then `count` bytes. The transport must have nothing left to write.

        Raises ConnectionError or TimeoutError if the client is gone, EOFError if the file is shorter,
        OSError if it cannot be read. In all of these an unknown part was sent.
        """
        self._wire.sender = self
        self._offset, self._left = offset, count
        try:
            while head:
                self._check()
                head = await self._send_head(head, socket.MSG_MORE if count else 0)
            while self._left:
                self._check()
                if resident(self._file, self._offset, min(self._left, WINDOW)):
                    await self._writable(self._pump)
                else:
                    await self._send_in_thread()
        finally:
            self._wire.sender = None
            if self._thread is None or self._thread.done():
                self._release()
            else:
                self._thread.add_done_callback(lambda _: self._release())

    def interrupt(self) -> None:
        """The connection is lost."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _send_head(self, head: bytes, flags: int) -> bytes:
        """What is left of it."""
        try:
            return head[self._socket.send(head, flags) :]
        except BlockingIOError:
            await self._writable(self.interrupt)
            return head

    def _pump(self) -> None:
        """Send a window, and leave it to the loop to call again until the task has to see to something."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        window = min(self._left, WINDOW)
        try:
            if resident(self._file, self._offset, window):
                self._sent(_sendfile(self._socket.fileno(), self._file, self._offset, window))
                if self._left:
                    self._wire.stalled()  # until the next call, which may never come
                    return
        except Exception as error:  # noqa: BLE001 - it is raised where the sending was begun
            waiter.set_exception(error)
        else:
            waiter.set_result(None)

    async def _send_in_thread(self) -> None:
        window = min(self._left, WINDOW)
        if self._own_file < 0:
            self._own_file = os.dup(self._file)
        self._thread = self._wire.file_threads().submit(
            _sendfile, self._socket.fileno(), self._own_file, self._offset, window
        )
        sent = await asyncio.wrap_future(self._thread)
        self._check()
        self._sent(sent)
        if sent < window:
            await self._writable(self.interrupt)

    def _sent(self, sent: int) -> None:
        if sent == 0:
            raise EOFError(f"the file ended {self._left} bytes early")
        if sent > 0:
            self._offset += sent
            self._left -= sent

    async def _writable(self, then: Callable[[], None]) -> None:
        """Have `then` called each time the socket takes something, until it ends the wait."""
        loop = self._wire.loop
        self._waiter = loop.create_future()
        loop.add_writer(self._socket.fileno(), then)
        self._wire.stalled()
        try:
            await self._waiter
        finally:
            loop.remove_writer(self._socket.fileno())
            self._wire.moving()

    def _check(self) -> None:
        if self._wire.lost:
            raise ConnectionResetError("the client is gone")

    def _release(self) -> None:
        self._socket.close()
        if self._own_file >= 0:
            os.close(self._own_file)


def _sendfile(out: int, file: int, offset: int, count: int) -> int:
    """Bytes sent, 0 at the end of the file, _BLOCKED if the socket takes none."""
    try:
        return os.sendfile(out, file, offset, count)
    except BlockingIOError:
        return _BLOCKED
