"""From the bytes of a connection to requests and their bodies.

llhttp parses heads, one at a time and in steps so small that no head is read for long. A body with
Content-Length bypasses it: its bytes go to the request as they came. So do the bytes of plain chunks, see
`chunks.py`; a chunked body's end, and whatever is unusual in it, is llhttp's again.

Memory is bounded before a head is whole by counting what was fed, and so are trailers and the
extensions of chunks, which llhttp would read for ever.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

import httptools

from .chunks import PlainChunks
from .refusals import Refusal, Refused, bad_request, refused
from .request_body import RequestBody
from .request_head import MAX_TARGET, WATCHED, RequestHead, check
from .settings import ServerSettings

logger = logging.getLogger("holdfast.server")

_HEAD_STEP: Final = 4096
_HEAD_END: Final = b"\r\n\r\n"
_TLS: Final = b"\x16\x03"
"""What a handshake begins with (RFC 8446, section 5.1)."""
_TLS_HERE: Final = "a TLS handshake, and this port speaks plain HTTP"
_CHUNKED_HEAD: Final = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Receiver(Protocol):
    def request_begins(
        self,
        head: RequestHead,
        headers: list[tuple[bytes, bytes]],
        *,
        version: str,
        keep_alive: bool,
    ) -> RequestBody: ...

    def request_ends(self) -> None:
        """The body of the request that began last is complete."""

    def busy(self) -> bool:
        """No further request can be taken now."""


class RequestStream:
    """One direction of one connection. `body` is the one being received, if any.

    The on_ methods are httptools' callbacks; what they raise comes out of feed().
    """

    __slots__ = (
        "_chunks",
        "_head_fed",
        "_headers",
        "_last",
        "_overhead",
        "_parser",
        "_progress",
        "_raw",
        "_receiver",
        "_settings",
        "_step",
        "_target",
        "_watched",
        "body",
        "closed",
        "in_head",
    )

    def __init__(self, receiver: Receiver, settings: ServerSettings) -> None:
        self._receiver = receiver
        self._settings = settings
        self._parser = httptools.HttpRequestParser(self)
        self._step = min(_HEAD_STEP, settings.max_header_bytes)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._watched: list[tuple[bytes, bytes]] = []
        self._head_fed = 0
        self._overhead = 0
        self._progress = False
        self._last = False
        self._raw: RequestBody | None = None
        self._chunks: PlainChunks | None = None
        self.body: RequestBody | None = None
        self.in_head = False
        self.closed = False
        """The client announced that its last request would be the last."""

    def feed(self, data: memoryview, *, placed: bool = False) -> memoryview:
        """Take the bytes in, and return those that must wait until the receiver is not busy.

        With `placed`, they have come to where the body that is `receiving` had room; else nothing of
        `data` is kept. Raises Refused when nothing further from this client can be understood.
        """
        while data and not self.closed:
            if self._raw is not None:
                data = self._feed_raw(self._raw, data, placed=placed)
            elif self._chunks is not None:
                data = self._feed_chunks(self._chunks, data, placed=placed)
            elif self.body is not None:
                data = data[self._parse(data) :]
            elif self._receiver.busy():
                return data
            else:
                data = data[self._parse_head(bytes(data[: self._step])) :]
            placed = False  # what is left is not that body's
        return data[:0]

    def receiving(self) -> RequestBody | None:
        """The body that has the room for what comes next, None if none is sure to come for it."""
        body = self._raw if self._chunks is None else self._chunks.body
        return None if body is None or body.discarding or self.closed else body

    def asked(self) -> tuple[str, bytes]:
        """Method and target, as far as they came, of the request whose head is not whole."""
        if not self.in_head or not self._target:
            return "", b""
        return self._parser.get_method().decode("latin-1"), self._target

    def release(self) -> None:
        """Break the cycle between the parser and this."""
        del self._parser

    def _feed_raw(self, body: RequestBody, data: memoryview, *, placed: bool) -> memoryview:
        piece = data[: body.remaining()]
        if placed:
            body.took(len(piece))
        else:
            body.copy(piece)
        body.arrived()
        if body.remaining() == 0:
            body.finish()
            self._raw = None
            self._parser = httptools.HttpRequestParser(self)
            self._end()
        return data[len(piece) :]

    def _feed_chunks(self, chunks: PlainChunks, data: memoryview, *, placed: bool) -> memoryview:
        data = chunks.feed(data, placed=placed)
        chunks.body.arrived()
        if chunks.unusual is not None:
            self._chunks = None
            if chunks.unusual:
                self._parse(chunks.unusual)
        return data

    def _parse_head(self, data: bytes) -> int:
        """Parse at most one head, so that what follows it is still to be taken in."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        whole = end >= len(_HEAD_END)
        taken = self._parse(data[:end] if whole else data)
        body = self.body
        # If some of the body came already, the blank line was in a chunk, and not the one after the head.
        if whole and body is not None and body.expected is None and not self._progress:
            self._chunks = PlainChunks(body)
        return taken

    def _parse(self, data: bytes | memoryview) -> int:
        """Parse all of it, but what follows the head of a request for an upgrade. What was parsed."""
        was_in_head = self.in_head
        self._progress = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            return int(upgrade.args[0])
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            if self.closed:
                return len(data)
            tls = self.body is None and not was_in_head and bytes(data[: len(_TLS)]) == _TLS
            raise Refused(bad_request(_TLS_HERE if tls else str(error))) from None
        if self.in_head:
            self._head_fed += len(data) if was_in_head else 1
            if self._head_fed > self._settings.max_header_bytes:
                raise Refused(self._too_large())
        elif self.body is not None:
            if self.body.expected is not None:
                self._raw = self.body
            elif self._progress:
                self._overhead = 0
            else:
                self._spend(len(data))
        return len(data)

    def _decline_upgrade(self) -> None:
        """To llhttp the head is the whole request, and what follows another protocol."""
        self._parser = httptools.HttpRequestParser(self)
        if self.body is not None:
            if self.body.expected is not None:
                self._raw = self.body
            else:
                self._parser = httptools.HttpRequestParser(_BodyOnly(self))
                self._parser.feed_data(_CHUNKED_HEAD)

    def _too_large(self) -> Refusal:
        limit = self._settings.max_header_bytes
        return Refusal(
            431, f"The request's headers are larger than {limit} bytes; send fewer or shorter ones."
        )

    def _spend(self, size: int) -> None:
        self._overhead += size
        if self._overhead > self._settings.max_header_bytes:
            raise Refused(bad_request("more trailers or chunk extensions than allowed"))

    def _end(self) -> None:
        self.body = None
        self.closed = self._last
        self._receiver.request_ends()

    def on_message_begin(self) -> None:
        self.in_head = True
        self._head_fed = 0
        self._target = b""
        self._headers = []
        self._watched = []

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MAX_TARGET:
            raise refused(
                414,
                f"The request target is longer than {MAX_TARGET} bytes; shorten the path or query.",
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            self._spend(len(name) + len(value) + 4)
            return
        name = name.lower()
        header = (name, value.strip())
        self._headers.append(header)
        if name in WATCHED:
            self._watched.append(header)

    def on_headers_complete(self) -> None:
        headers = self._headers
        limit = self._settings.max_headers
        if len(headers) > limit:
            raise refused(431, f"The request has more than {limit} headers; send fewer.")
        if self._head_fed:  # a head that came in one step is smaller than any limit
            size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > self._settings.max_header_bytes:
                raise Refused(self._too_large())
        parser = self._parser
        version = parser.get_http_version()
        head = check(parser.get_method(), self._target, version, self._watched)
        keep_alive = parser.should_keep_alive()
        if head.length is None and parser.should_upgrade():
            keep_alive = False  # see _decline_upgrade
        self._last = not keep_alive
        self._overhead = 0
        self.in_head = False
        self.body = self._receiver.request_begins(
            head, headers, version=version, keep_alive=keep_alive
        )

    def on_body(self, data: bytes) -> None:
        self._progress = True
        if self.body is not None:
            self.body.feed(data)

    def on_message_complete(self) -> None:
        body = self.body
        if body is None:
            return
        if not body.complete:
            if body.remaining() != 0 and self._parser.should_upgrade():
                return  # its body is still to come
            body.finish()
        self._end()


class _BodyOnly:
    """For a parser that has been told a head of our own making."""

    def __init__(self, stream: RequestStream) -> None:
        self.on_body = stream.on_body
        self.on_header = stream.on_header
        self.on_message_complete = stream.on_message_complete

    def on_message_begin(self) -> None: ...
