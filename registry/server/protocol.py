"""One connection of a client, as a protocol for uvicorn's server: its requests in turn.

Requests are answered in order, one at a time: `_current` is being answered, `_queue` waits. What comes
in is the business of `receiving.py`, what goes out of `outlet.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from . import refusals
from .blocks import Blocks
from .context import NEVER, WorkerContext
from .exchange import Exchange
from .lifecycle import Unserved
from .receiving import LINGER, Receiving
from .refusals import Refusal, Refused
from .request_body import RequestBody
from .request_head import RequestHead, decoded
from .tls import extension

logger = logging.getLogger("holdfast.server")

QUEUED: Final = 8
"""Pipelined requests at which reading pauses, but for those that came in one piece."""
_QUEUED_AT_ONCE: Final = 256

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}


class Connection(Receiving):
    __slots__ = (
        "_absorbing",
        "_app",
        "_app_state",
        "_client",
        "_current",
        "_queue",
        "_refusal",
        "_scheme",
        "_server",
        "_server_state",
        "_stopping",
        "_tls",
        "announced",
    )

    def __init__(
        self,
        context: WorkerContext,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(context, _loop or asyncio.get_running_loop())
        self._app = cast(ASGIApp, config.loaded_app)
        self._server_state = server_state
        self._app_state = app_state
        self._current: Exchange | None = None
        self._queue: list[Exchange] = []
        self._absorbing = False  # the rest of a body whose request has been answered
        self._refusal: Refusal | None = None  # to be given after the answers that are due
        self._stopping = False
        self._tls: dict[str, Any] | None = None
        self.announced: tuple[str, int] | None = None  # the client, in the words of a balancer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._client = self.announced or _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        secured = transport.get_extra_info("ssl_object")
        self._tls = None if secured is None else extension(secured)
        self._scheme = "http" if secured is None else "https"
        connections: set[Any] = self._server_state.connections
        connections.add(self)
        self._context.opened(self, self.loop)
        limit = self._context.settings.max_connections
        if limit and len(connections) > limit:
            self._refuse(refusals.TOO_MANY_CONNECTIONS)

    def connection_lost(self, _exc: Exception | None) -> None:
        connections: set[Any] = self._server_state.connections
        connections.discard(self)
        self._context.closed(self)
        self.read_deadline = NEVER
        self.out.lose()
        if self._current is not None:
            self._current.lost()
        self._current = None
        self._queue.clear()
        self._held = b""
        self._stream.release()

    def eof_received(self) -> bool:
        """Keep the sending half of a client that shut down its own, if it is owed answers."""
        self.eof = True
        if self._stream.body is not None and not self._lingering:
            self._stream.body.fail(None)
            return False
        if self._current is not None:
            self._current.ended()
        return self._current is not None and not self._lingering and self._scheme == "http"

    def shutdown(self) -> None:
        """Called by the server when it stops: no further request after those begun.

        A client that has just connected is about to say why, and one that has just spoken would find
        its request reset: both get their answer.
        """
        self._stopping = True
        if self._idle() and not self._stream.in_head:
            if self._head_clock or self.out.unread():
                self.read_deadline = min(self.read_deadline, self.loop.time() + LINGER)
            else:
                self.close()

    def read_expired(self) -> None:
        """Called by the worker's clock when `read_deadline` has passed."""
        self.read_deadline = NEVER
        body = self._stream.body
        if self._lingering or self._absorbing:
            self.close()
        elif body is not None and body.waiting:
            self._refuse(refusals.BODY_TIMEOUT)
        elif self._stream.in_head:
            self._refuse(refusals.HEADER_TIMEOUT)
        else:
            self.close()

    @property
    def blocks(self) -> Blocks:
        return self._context.blocks

    def _idle(self) -> bool:
        return self._current is None and not self._absorbing and not self._lingering

    def request_begins(
        self,
        head: RequestHead,
        headers: list[tuple[bytes, bytes]],
        *,
        version: str,
        keep_alive: bool,
    ) -> RequestBody:
        if len(self._queue) >= _QUEUED_AT_ONCE:
            raise Refused(refusals.bad_request("too many requests at once on one connection"))
        body = RequestBody(self, head.length, expects_continue=head.expects_continue)
        extensions: dict[str, Any] = {"holdfast.body": body}
        if self._tls is None:
            extensions["http.response.zerocopysend"] = {}
        else:
            extensions["tls"] = self._tls
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": head.method,
            "root_path": "",
            "path": decoded(head.path),
            "raw_path": head.path,
            "query_string": head.query,
            "headers": headers,
            "state": self._app_state.copy(),
            "extensions": extensions,
        }
        exchange = Exchange(self, scope, body, keep_alive=keep_alive, old=version == "1.0")
        if self._current is None and not self._queue:
            self._start(exchange)
        else:
            self._queue.append(exchange)
        return body

    def request_ends(self) -> None:
        if self._absorbing:
            self._absorbing = False
            self._next()

    def busy(self) -> bool:
        return len(self._queue) >= QUEUED

    def body_wanted(self, body: RequestBody) -> None:
        if body.expects_continue and self._current is not None:
            body.expects_continue = self._current.answering
            if not body.received and not self._current.answering:
                self.out.write(_CONTINUE)
        self.read_deadline = self.loop.time() + self._context.settings.body_timeout
        self.body_taken()  # the window may have grown since reading was paused

    def common_headers(self) -> bytes:
        return self._context.common(self._server_state.default_headers)

    def leaving(self) -> bool:
        """The answer being given is the last, and had better say so."""
        if self._queue or self._held or self._refusal is not None:
            return False
        return self._stopping or self.eof or self._deaf or self._context.lifecycle.draining

    def response_done(self, exchange: Exchange) -> None:
        """The response is complete; the application may still be running."""
        self._server_state.total_requests += 1
        self._current = None
        body = exchange.body
        if not exchange.keep_alive or body.failed:
            self._end()
        elif not body.complete:
            body.discard()
            self._absorbing = True
            self.read_deadline = self.loop.time() + self._context.settings.body_timeout
            self._check_reading()
        else:
            self._next()

    def answer(self, refusal: Refusal, *, bodiless: bool = False) -> None:
        """Refuse, instead of the response that is due, and end the connection."""
        logger.info("refused a request: %d %s", refusal.status, refusal.message)
        self.out.write(refusals.render(refusal, self.common_headers(), bodiless=bodiless))
        self._current = None
        self._queue.clear()
        self._linger()

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        self._head_clock = False
        self.read_deadline = NEVER
        # A context of its own: a pipelined request must not inherit what another one's task has set.
        task = self.loop.create_task(exchange.run(self._app), context=contextvars.Context())
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def _next(self) -> None:
        """The last response is complete, and so is its request."""
        if self.out.lost:
            return
        if self._queue:
            self._start(self._queue.pop(0))
        if self._held and not self.busy():
            held, self._held = self._held, b""
            self._take(memoryview(held), placed=False)
        if self._current is None and not self._absorbing and not self._lingering:
            if self._refusal is not None:
                self._turn_away(self._refusal)
            elif self._stream.closed or self.eof or self._stopping:
                self.close()
            elif self._stream.in_head:
                self._start_head_clock()
            else:
                self.read_deadline = self.loop.time() + self._context.settings.keepalive_timeout

    def _refuse(self, refusal: Refusal) -> None:
        """Something came, or did not come, after which this client cannot be understood."""
        self._deaf = True
        self._held = b""
        body = self._stream.body
        if self._absorbing:
            self.close()
        elif body is not None:
            body.fail(refusal)  # the application hears of it first
        elif self._current is not None:
            self._refusal = refusal
        else:
            self._turn_away(refusal)

    def _turn_away(self, refusal: Refusal) -> None:
        """Refuse a request that the application will never see."""
        method, target = self._stream.asked()
        self.answer(refusal)
        tell = self._context.lifecycle.on_unserved
        if tell is not None:
            client = self._client[0] if self._client else ""
            sent = len(refusals.envelope(refusal))
            tell(Unserved(refusal.status, refusal.code, client, method, target, sent))

    def _end(self) -> None:
        """Nothing more will be sent."""
        if self._stream.body is None and (self._stream.closed or self.eof) and not self._deaf:
            self.close()
        else:
            self._queue.clear()
            self._linger()


def _address(name: Any) -> tuple[str, int] | None:
    """Host and port; a unix socket's peer has none."""
    return (name[0], name[1]) if isinstance(name, tuple) else None
