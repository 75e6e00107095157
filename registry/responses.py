"""Domain values to responses: headers, ranges, pages, and bytes that need not pass through Python."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry.streaming import Threads, settled
from storage.driver import Reader
from storage.driver_errors import DriverError
from storage.model.digest import Digest
from storage.model.errors import RegistryError
from storage.translation import translate

READ_SIZE = 1024 * 1024

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    start: int
    length: int


class Unsatisfiable(RegistryError):
    """The range has no byte of the content, which has `size` bytes (416)."""

    code = "RANGE_INVALID"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The Range has no byte of this content, which has {size} bytes. Ask for others.",
            {"size": size},
        )
        self.size = size


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The one range that is asked for; None to send the whole (RFC 9110 section 14.2).

    Several ranges come back whole, as do forms that are no byte range. Raises Unsatisfiable.
    """
    match = None if header is None else _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise Unsatisfiable(size)
        return ByteRange(size - length, length)
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if start > end:
        raise Unsatisfiable(size)
    return ByteRange(start, end - start + 1)


def etag(digest: Digest) -> str:
    return f'"{digest}"'


def next_page(path: str, **parameters: object) -> dict[str, str]:
    """The Link header of a list that goes on (RFC 8288)."""
    given = {key: value for key, value in sorted(parameters.items()) if value is not None}
    return {"Link": f'<{path}?{urlencode(given)}>; rel="next"'}


def warning(text: str) -> dict[str, str]:
    """A Warning header as clients show it to people (distribution-spec "Warnings")."""
    cleaned = re.sub(r'[^\x20-\x7e]|["\\]', "'", text)[:1000]
    return {"Warning": f'299 - "{cleaned}"'}


RawHeaders = Sequence[tuple[bytes, bytes]]


def encoded(headers: Mapping[str, str]) -> RawHeaders:
    """As they are sent, with names in lower case."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]


class EncodedResponse(Response):
    """A small response whose headers are encoded already: once, for an answer that is given often.

    They are complete: where there is content, its Content-Length is among them.
    """

    def __init__(self, body: bytes, status_code: int, headers: RawHeaders) -> None:
        self.status_code = status_code
        self.background = None
        self.body = body
        self.raw_headers = [*headers]


class ContentResponse(Response):
    """Bytes of a stored object: by zero copy where the server and the storage can, else by reading.

    Takes over the reader and closes it. The object is open before the response starts; what fails
    after the first byte can only cut the connection, which tells the client that it is not whole.
    """

    def __init__(
        self,
        reader: Reader,
        span: ByteRange,
        threads: Threads,
        status_code: int,
        headers: Mapping[str, str],
    ) -> None:
        self._reader = reader
        self._span = span
        self._threads = threads
        self.status_code = status_code
        self.background = None
        self.raw_headers = [*encoded(headers)]
        self._first: asyncio.Future[bytes] | None = None
        self._descriptor: int | None = None
        self._begun = False

    async def begin(self, scope: Scope) -> None:
        """Find out whether the content can be read, while that can still become an error response.

        Raises Unavailable, having closed the reader. Zero copy has nothing to read.
        """
        try:
            self._choose(scope)
            if self._descriptor is None:
                self._first = self._read(self._span.start, self._span.start + self._span.length)
                await settled(self._first)
        except DriverError as error:
            self._close()
            raise translate(error) from error
        except BaseException:  # a cancelled request, too, must not leave the file open
            self._close()
            raise

    def _close(self) -> None:
        """What was read is read: a failure to let go of it changes no answer."""
        with contextlib.suppress(DriverError):
            self._reader.close()

    def _choose(self, scope: Scope) -> None:
        """Zero copy, if both the storage and the server can."""
        descriptor = self._reader.fileno()
        if "http.response.zerocopysend" in scope.get("extensions", {}):
            self._descriptor = descriptor
        self._begun = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        try:
            if not self._begun:
                self._choose(scope)
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if self._descriptor is not None:
                await send(
                    {
                        "type": "http.response.zerocopysend",
                        "file": self._descriptor,
                        "offset": self._span.start,
                        "count": self._span.length,
                        "more_body": False,
                    }
                )
            else:
                await self._copy(send)
        finally:
            self._close()

    async def _copy(self, send: Send) -> None:
        """One piece is sent while the next is read."""
        offset, end = self._span.start, self._span.start + self._span.length
        reading = self._first or self._read(offset, end)
        try:
            while True:
                data = await settled(reading)
                offset += len(data)
                if not data and offset < end:
                    raise OSError("a stored object is shorter than it was when it was opened")
                if offset < end:
                    reading = self._read(offset, end)
                more = offset < end
                await send({"type": "http.response.body", "body": data, "more_body": more})
                if not more:
                    return
        finally:
            if not reading.done():  # the reader must not be closed under a thread that uses it
                await asyncio.wait([reading])

    def _read(self, offset: int, end: int) -> asyncio.Future[bytes]:
        return self._threads.start(self._reader.read_at, offset, min(READ_SIZE, end - offset))
