"""Which request heads are unambiguous enough to be served (RFC 9112; SECURITY: request smuggling).

llhttp, the parser below, refuses most malformed requests itself: bare LF, folded lines, control
characters, a space before the colon, Content-Length together with Transfer-Encoding or twice. What it
lets pass, and what decides how long the body is, is checked here, whatever the parser's version.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from typing import Final

from .refusals import BAD_METHOD, METHODS, Refused, bad_request, refused

MAX_TARGET: Final = 8192

WATCHED: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
"""Headers that check() wants to see, by lower-case name."""

_METHOD: Final = {name.encode(): name for name in METHODS}
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,19}")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(slots=True)
class RequestHead:
    method: str
    path: bytes  # as sent
    query: bytes
    length: int | None  # of the body; None if chunked
    expects_continue: bool


def check(
    method: bytes, target: bytes, version: str, watched: list[tuple[bytes, bytes]]
) -> RequestHead:
    """Raises Refused. `watched` are the WATCHED headers in order, `target` is at most MAX_TARGET."""
    if version not in ("1.1", "1.0"):
        raise refused(505, "The registry speaks HTTP/1.1 only; use that version.")
    name = _METHOD.get(method)
    if name is None:
        raise Refused(BAD_METHOD)
    host: bytes | None = None
    length: int | None = 0
    length_seen = expects_continue = False
    for header, value in watched:
        if header == b"host":
            if host is not None:
                raise Refused(bad_request("two Host headers"))
            host = value
        elif header == b"expect":
            if value.lower() != b"100-continue":
                raise refused(
                    417, "The registry meets no expectation but 100-continue; send no other."
                )
            expects_continue = version == "1.1"
        elif length_seen:
            raise Refused(bad_request("the length of the body is given twice"))
        else:
            length_seen = True
            length = _body_length(header, value, version)
    path, query = _target(target, host)
    if host is None:
        if version == "1.1":
            raise Refused(bad_request("no Host header"))
    elif not _HOST.fullmatch(host):
        raise Refused(bad_request("an invalid Host header"))
    return RequestHead(name, path, query, length, expects_continue and length != 0)


def _body_length(header: bytes, value: bytes, version: str) -> int | None:
    if header == b"content-length":
        if not _LENGTH.fullmatch(value):
            raise Refused(bad_request("an invalid Content-Length"))
        return int(value)
    if value.lower() != b"chunked" or version != "1.1":
        raise Refused(bad_request("a Transfer-Encoding other than chunked"))
    return None


def _target(target: bytes, host: bytes | None) -> tuple[bytes, bytes]:
    if not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise Refused(bad_request("an invalid request target"))
        if host is not None and match[1].lower() != host.lower():
            raise Refused(bad_request("a request target for another host than the Host header"))
        target = match[2]
        if not target.startswith(b"/"):
            target = b"/" + target
    if b"#" in target:
        raise Refused(bad_request("a fragment in the request target"))
    path, _, query = target.partition(b"?")
    return path, query


def decoded(path: bytes) -> str:
    """The path as text, for routing that can live with a best effort."""
    text = path.decode("latin-1")
    return urllib.parse.unquote(text) if "%" in text else text
