"""One request and its response: the ASGI side of a connection.

The head of a response is held back until the first piece of its body, so that a small response leaves
in one write, gets a Content-Length, and can still become an error until then. ASGI 2.4: send() raises
OSError once the client is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from typing import Any, Final, Protocol

from starlette.types import ASGIApp, Message

from registry.streaming import ClientGone

from . import response_head
from .outlet import Outlet
from .refusals import Refusal, mistake
from .request_body import RequestBody
from .sending import FileSender, read_small

logger = logging.getLogger("holdfast.server")

DRAINABLE: Final = 64 * 1024
"""A request body of which no more is left is read to its end to keep the connection."""
_RECEIVE: Final = 1024 * 1024


class SendFailed(ConnectionResetError):
    """What send() raises when there is nobody to send to."""

    def __init__(self) -> None:
        super().__init__("the client is gone")


class Line(Protocol):
    """What an exchange needs of its connection."""

    loop: asyncio.AbstractEventLoop
    out: Outlet
    eof: bool

    def common_headers(self) -> bytes: ...

    def leaving(self) -> bool: ...

    def response_done(self, exchange: Exchange) -> None: ...

    def answer(self, refusal: Refusal, *, bodiless: bool = False) -> None: ...

    def close(self) -> None: ...


class Exchange:
    __slots__ = (
        "_bodiless",
        "_body_received",
        "_chunked",
        "_end",
        "_head_sent",
        "_left",
        "_line",
        "_old",
        "_out",
        "_start",
        "body",
        "complete",
        "gone",
        "keep_alive",
        "scope",
    )

    def __init__(
        self, line: Line, scope: dict[str, Any], body: RequestBody, *, keep_alive: bool, old: bool
    ) -> None:
        self._line = line
        self._out = line.out
        self.scope = scope
        self.body = body
        self.keep_alive = keep_alive
        self._old = old
        self._start: Message | None = None
        self._head_sent = False
        self._left: int | None = None
        self._chunked = False
        self._bodiless = False
        self._body_received = False
        self._end: asyncio.Future[None] | None = None
        self.complete = False
        self.gone = False

    @property
    def answering(self) -> bool:
        """The client has been sent a part of the response."""
        return self._head_sent

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self.complete:
                self._out.abort()
            raise
        except Exception as error:  # noqa: BLE001 - the application's mistake ends its request, no more
            if not _is_departure(error):
                self._report(error)
            elif not self.complete:
                self._give_up()
        else:
            if self.complete or self.gone:
                return
            if self.body.failed:
                self._give_up()
            else:
                self._report(None)

    def lost(self) -> None:
        """The connection is."""
        self.gone = not self.complete
        self.body.fail(None)
        self.ended()

    def ended(self) -> None:
        """The client sends no more: tell whoever waits for a disconnect, though it may still listen."""
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    async def receive(self) -> Message:
        if not self._body_received:
            try:
                pieces = await self.body.read(_RECEIVE)
            except ClientGone:
                return {"type": "http.disconnect"}
            self._body_received = self.body.drained
            data = b"".join(pieces)
            return {"type": "http.request", "body": data, "more_body": not self._body_received}
        if self._end is None:
            self._end = self._line.loop.create_future()
            if self.complete or self.gone or self._line.eof:
                self._end.set_result(None)
        await asyncio.shield(self._end)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.gone:
            raise SendFailed
        kind = message["type"]
        if kind == "http.response.start":
            if self._start is not None:
                raise RuntimeError("a second http.response.start")
            self._start = message
            return
        if self._start is None or self.complete:
            raise RuntimeError(f"{kind} before the start or after the end of the response")
        if self._out.paused:
            await self._out.drained()
            if self.gone:
                raise SendFailed
        more: bool = message.get("more_body", False)
        if kind == "http.response.body":
            self._send_bytes(self._start, message.get("body", b""), more=more)
        elif kind == "http.response.zerocopysend":
            await self._send_file(self._start, message, more=more)
        else:
            raise RuntimeError(f"the server knows no message {kind}")
        if not more:
            if self._left:
                raise RuntimeError(f"the response ended {self._left} bytes before Content-Length")
            self.complete = True
            self.ended()
            self._line.response_done(self)

    def _send_bytes(self, start: Message, data: bytes, *, more: bool) -> None:
        head = self._prepare(start, len(data), more=more)
        self._head_sent = True
        if self._bodiless:
            self._out.write(head)
        elif not self._chunked:
            self._out.write(head, data)
        else:
            size = b"%x\r\n" % len(data) if data else b""
            end = b"\r\n" if data else b""
            self._out.write(head + size, data, end if more else end + b"0\r\n\r\n")

    async def _send_file(self, start: Message, message: Message, *, more: bool) -> None:
        """http.response.zerocopysend, as the ASGI specification describes it."""
        file: int = message["file"]
        offset: int | None = message.get("offset")
        if offset is None:
            offset = os.lseek(file, 0, os.SEEK_CUR)
        count: int | None = message.get("count")
        if count is None:
            count = max(0, os.fstat(file).st_size - offset)
        if start["status"] in (204, 304) or self.scope["method"] == "HEAD":
            data: bytes | None = bytes(0)
        else:
            data = read_small(file, offset, count)
        if data is not None:
            self._send_bytes(start, data, more=more)
            return
        head = self._prepare(start, count, more=more)
        await self._out.flushed()
        if self.gone:
            raise SendFailed
        self._head_sent = True
        if self._chunked:
            head += b"%x\r\n" % count
        try:
            await FileSender(self._out, file).send(head, offset, count)
        except (ConnectionError, TimeoutError):
            self._out.abort()
            raise SendFailed from None
        if self._chunked:
            self._out.write(b"\r\n" if more else b"\r\n0\r\n\r\n")

    def _prepare(self, start: Message, count: int, *, more: bool) -> bytes:
        """Make room for `count` bytes of body. The head, if it has not left yet."""
        data = b""
        if not self._head_sent:
            head = response_head.render(
                start["status"],
                start.get("headers", ()),
                self._line.common_headers(),
                method=self.scope["method"],
                old=self._old,
                keep_alive=self._may_keep_alive(),
                whole=None if more else count,
            )
            self.keep_alive = head.keep_alive
            self._left = head.left
            self._chunked = head.chunked
            self._bodiless = head.bodiless
            data = head.data
        if self._left is not None and not self._bodiless:
            if count > self._left:
                raise RuntimeError("the response is longer than its Content-Length")
            self._left -= count
        return data

    def _may_keep_alive(self) -> bool:
        if not self.keep_alive or self._line.leaving():
            return False
        body = self.body
        if body.complete:
            return True
        left = body.remaining()
        return not (body.expects_continue or body.failed or left is None or left > DRAINABLE)

    def _give_up(self) -> None:
        """Nobody waits for a response, or the client spoiled its own request."""
        refusal = self.body.refusal
        if self._head_sent:
            self._out.abort()
        elif refusal is not None:
            self._line.answer(refusal, bodiless=self.scope["method"] == "HEAD")
        else:
            self._line.close()

    def _report(self, error: BaseException | None) -> None:
        request_id = self.scope["state"].get("request_id") or secrets.token_hex(8)
        logger.error(
            "%s %s: %s (request id %s)",
            self.scope["method"],
            self.scope["path"],
            "the application failed" if error else "the application left no whole response",
            request_id,
            exc_info=error,
        )
        if self.gone or self.complete:
            return
        if self._head_sent:
            self._out.abort()
        else:
            self._line.answer(mistake(request_id), bodiless=self.scope["method"] == "HEAD")


def _is_departure(error: BaseException | None) -> bool:
    """Whether the error is, or came of, the news that the client is gone."""
    while error is not None:
        if isinstance(error, ClientGone | SendFailed):
            return True
        error = error.__cause__ or error.__context__
    return False
