"""The receiving half of a connection: what is listened to, until when, and how one stops listening.

Bytes go to the request stream as they come: from memory that all connections share, or, while a body is
expected, in the body's own. Reading from the socket pauses while a request cannot be
taken or a body is not; every wait for the client has a deadline, which the worker's clock looks at.
`_deaf` means that nothing further is listened to, because it could no longer be trusted or answered.

Whenever the server ends a connection to a client that may still be sending, it closes its own side,
and throws away what comes for a while: closing outright would reset the connection, and the client
would never read the answer (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from .context import NEVER, WorkerContext
from .outlet import Outlet
from .refusals import Refusal, Refused
from .request_body import RequestBody
from .request_stream import Receiver, RequestStream

LINGER: Final = 2.0
LINGER_BYTES: Final = 64 * 1024 * 1024


class Receiving(asyncio.BufferedProtocol):
    """What is said of requests is for the subclass, which is the stream's Receiver."""

    __slots__ = (
        "_context",
        "_deaf",
        "_discarded",
        "_head_clock",
        "_held",
        "_lingering",
        "_read_paused",
        "_room",
        "_stream",
        "_transport",
        "eof",
        "loop",
        "out",
        "read_deadline",
    )

    def __init__(self, context: WorkerContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._stream = RequestStream(cast(Receiver, self), context.settings)
        self._held = b""
        self._deaf = self.eof = self._lingering = self._read_paused = False
        self._room: memoryview | None = None  # of a body, for what comes next
        self._head_clock = True
        self._discarded = 0
        self.loop = loop
        self.read_deadline = NEVER

    def _idle(self) -> bool:
        """No request is being answered, and none is left to be read to its end."""
        raise NotImplementedError

    def _refuse(self, refusal: Refusal) -> None:
        """Something came, or did not come, after which this client cannot be understood."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.out = Outlet(self._context, self.loop, self._transport)
        self.read_deadline = self.loop.time() + self._context.settings.header_timeout

    def pause_writing(self) -> None:
        self.out.pause()

    def resume_writing(self) -> None:
        self.out.resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        body = None if self._deaf or self._held else self._stream.receiving()
        self._room = None if body is None else body.within_window()
        return self._context.received if self._room is None else self._room

    def buffer_updated(self, count: int) -> None:
        room, self._room = self._room, None  # an idle connection keeps nobody's memory
        if self._lingering:
            self._discarded += count
            if self._discarded > LINGER_BYTES:
                self.close()
        elif self._deaf:
            return
        elif room is not None:
            self._take(room[:count], placed=True)
        elif self._held:
            self._held += self._context.received[:count]
        else:
            self._take(self._context.received[:count], placed=False)

    def body_comes(self) -> None:
        self.read_deadline = self.loop.time() + self._context.settings.body_timeout

    def body_came(self) -> None:
        self.read_deadline = NEVER

    def body_taken(self) -> None:
        if self._read_paused and not self.out.lost:
            self._check_reading()

    def close(self) -> None:
        self._deaf = True
        self.out.close()

    def _take(self, data: memoryview, *, placed: bool) -> None:
        try:
            self._held = bytes(self._stream.feed(data, placed=placed))
        except Refused as refused:
            self._refuse(refused.refusal)
            return
        if self._stream.in_head and not self._head_clock and self._idle():
            self._start_head_clock()
        self._check_reading()

    def _start_head_clock(self) -> None:
        self._head_clock = True
        self.read_deadline = self.loop.time() + self._context.settings.header_timeout

    def _check_reading(self) -> None:
        body: RequestBody | None = self._stream.body
        pause = (bool(self._held) or (body is not None and body.full)) and not self._deaf
        if pause != self._read_paused and not self.eof:
            self._read_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _linger(self) -> None:
        self._lingering = self._deaf = True
        self._held = b""
        if self.eof or self.out.lost:
            self.close()
            return
        self.read_deadline = self.loop.time() + LINGER
        self._check_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
