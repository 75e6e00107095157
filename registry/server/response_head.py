"""The head of a response, from what the application said to the bytes on the wire.

A response ends where its head says it does: by Content-Length, by chunked coding, or, for an HTTP/1.0
client and a body of unknown length, by the end of the connection (RFC 9112, section 6.3).

Names of headers have no case, but scripts do: many look for `Docker-Content-Digest:` as registries in
Go write it. So names are written in that way, whatever the application calls them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

_PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()
    for status in range(200, 600)
}


@lru_cache(maxsize=256)
def spelled(name: bytes) -> bytes:
    """A header's name as Go writes it: `etag` is `Etag`, `oci-subject` is `Oci-Subject`."""
    return name.title()


@dataclass(slots=True)
class ResponseHead:
    data: bytes
    left: int | None  # bytes of body to come; None if only its end will tell
    chunked: bool
    bodiless: bool
    keep_alive: bool


def render(
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    common: bytes,
    *,
    method: str,
    old: bool,
    keep_alive: bool,
    whole: int | None,
) -> ResponseHead:
    """`whole` is the length of the body if it is known to be all there; `old` means HTTP/1.0.

    Raises RuntimeError for headers that would break the response apart.
    """
    line = _STATUS_LINES.get(status)
    if line is None:
        raise RuntimeError(f"no HTTP status for a response: {status}")
    bodiless = method == "HEAD" or status in (204, 304)
    parts = [line, common]
    lines = 2 + common.count(b"\n")
    length: int | None = None
    for name, value in headers:
        name = name.lower()
        if name == b"content-length":
            if status == 204 or length is not None:
                continue
            length = int(value)
        elif name == b"transfer-encoding":
            continue
        elif name == b"connection":
            keep_alive = keep_alive and b"close" not in value.lower()
            continue
        parts += (spelled(name), b": ", value, b"\r\n")
        lines += 1
    chunked = False
    if length is None and not bodiless:
        if whole is not None:
            length = whole
            parts.append(b"Content-Length: %d\r\n" % whole)
            lines += 1
        elif old:
            keep_alive = False
        else:
            chunked = True
            parts.append(b"Transfer-Encoding: chunked\r\n")
            lines += 1
    if not keep_alive:
        parts.append(b"Connection: close\r\n")
        lines += 1
    elif old:
        parts.append(b"Connection: keep-alive\r\n")
        lines += 1
    parts.append(b"\r\n")
    data = b"".join(parts)
    if data.count(b"\n") != lines or data.count(b"\r") != lines or b"\0" in data:
        raise RuntimeError("a response header holds a line break or NUL")
    return ResponseHead(data, 0 if bodiless else length, chunked, bodiless, keep_alive)
