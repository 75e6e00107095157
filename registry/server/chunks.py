"""The chunks of a body as all clients write them: a size in hexadecimal digits, and nothing more.

    chunk = size CRLF data CRLF         (RFC 9112, section 7.1)

This reads only what cannot be read in two ways. At the first thing that is anything else (the last chunk,
a small one, an extension, a mistake) it stops for good, at the beginning of a chunk, which is where llhttp
has waited.
"""

from __future__ import annotations

import re
from typing import Final

from .refusals import Refused, bad_request
from .request_body import RequestBody

_FIRST: Final = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_NEXT: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,8})\r\n")
_FIRST_BEGUN: Final = re.compile(rb"[0-9A-Fa-f]{0,8}|[0-9A-Fa-f]{1,8}\r")
_NEXT_BEGUN: Final = re.compile(rb"\r?|\r\n[0-9A-Fa-f]{0,8}|\r\n[0-9A-Fa-f]{1,8}\r")
SMALLEST = 4096
"""Bytes of a chunk. Many smaller ones would cost the loop ten times as much here as with llhttp."""
_LONGEST: Final = 12
"""Bytes from the end of a chunk's data to the beginning of the next one's."""


class PlainChunks:
    __slots__ = ("_begun", "_left", "_line", "body", "unusual")

    def __init__(self, body: RequestBody) -> None:
        self._line = b""  # what has come of the bytes between two chunks' data
        self._left = 0  # bytes of the chunk that are still to come
        self._begun = False
        self.body = body
        self.unusual: bytes | None = None
        """Not None at the end: what llhttp must read before all that was not taken."""

    def feed(self, data: memoryview, *, placed: bool) -> memoryview:
        """What is left: nothing, unless `unusual` is set. Raises Refused.

        With `placed`, the data came to where the body had room; else they are copied.
        """
        body = self.body
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                if placed:
                    body.took(step)
                else:
                    body.copy(data[at : at + step])
                at += step
                continue
            line = self._line + bytes(data[at : at + _LONGEST - len(self._line)])
            plain = (_NEXT if self._begun else _FIRST).match(line)
            size = 0 if plain is None else int(plain[1], 16)
            if plain is not None and size >= SMALLEST:
                step = plain.end() - len(self._line)
                self._line = b""
                self._left = size
                self._begun = True
            elif (_NEXT_BEGUN if self._begun else _FIRST_BEGUN).fullmatch(line):
                step = end - at
                self._line = line
            else:
                return self._stop(line, data[at:])
            if placed:
                body.skip(step)
            at += step
        return data[end:]

    def _stop(self, line: bytes, data: memoryview) -> memoryview:
        end = 2 if self._begun else 0
        if self._begun and not line.startswith(b"\r\n"):
            raise Refused(bad_request("a chunk is longer than its size says"))
        self.unusual = self._line[end:]
        return data[max(0, end - len(self._line)) :]
