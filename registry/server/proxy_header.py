"""The PROXY protocol: how a balancer that forwards bytes announces whose bytes they are.

Versions 1 and 2 as HAProxy's doc/proxy-protocol.txt specifies them, read strictly: a header that is not
exactly right was not written by a balancer, and nothing behind it can be trusted. UDP makes no sense
here, and is refused. What version 2 appends to the addresses is passed over.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final

MAX_APPENDED: Final = 4096
"""Bytes of a version 2 header after its first 16."""

Announced = tuple[str, int]
"""Address and port of the client."""

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16
_LONGEST_LINE: Final = 107
_BEGINNING: Final = b"PROXY "
_LINE: Final = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) "
    rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?\r\n")
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_UNIX: Final = 0x31
_SHORTEST: Final = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


class NotAnnounced(Exception):
    """What came is no PROXY header; a sentence without its full stop."""


class ProxyHeader:
    """Reads one header out of the first bytes of a connection, and none that follow it."""

    __slots__ = ("_seen", "client", "done")

    def __init__(self) -> None:
        self._seen = b""
        self.done = False
        self.client: Announced | None = None
        """None if the balancer speaks for itself (its health checks) or for a client it cannot name."""

    def take(self, data: bytes) -> int:
        """How many of the next bytes, of which there is at least one, belong to the header.

        Raises NotAnnounced.
        """
        seen = self._seen + data
        if seen.startswith(_SIGNATURE[: len(seen)]):
            size = self._binary(seen)
        elif seen.startswith(_BEGINNING[: len(seen)]):
            size = self._line(seen)
        else:
            raise NotAnnounced("it does not begin with a PROXY header")
        taken = min(size, len(seen)) - len(self._seen)
        self._seen = seen[:size]
        return taken

    def _line(self, seen: bytes) -> int:
        """The size of the header as far as it is known: all that was seen, or up to its end."""
        size = seen.find(b"\n") + 1
        if not size and len(seen) < _LONGEST_LINE:
            return len(seen)
        line = seen[:size]
        if not 0 < size <= _LONGEST_LINE:
            raise NotAnnounced("its PROXY header is longer than a line of version 1 can be")
        self.done = True
        if _UNKNOWN.fullmatch(line):
            return size
        match = _LINE.fullmatch(line)
        if match is None:
            raise NotAnnounced("its PROXY header is malformed")
        version = 4 if match[1] == b"TCP4" else 6
        _address(match[3], version)
        _port(match[5])
        self.client = (_address(match[2], version), _port(match[4]))
        return size

    def _binary(self, seen: bytes) -> int:
        if len(seen) < _FIXED:
            return _FIXED
        command, family, appended = struct.unpack_from("!BBH", seen, len(_SIGNATURE))
        if command not in (_LOCAL, _PROXY):
            raise NotAnnounced("its PROXY header is of an unknown version or command")
        if appended > MAX_APPENDED:
            raise NotAnnounced(f"its PROXY header appends more than {MAX_APPENDED} bytes")
        if command == _PROXY and appended < _SHORTEST.get(family, MAX_APPENDED + 1):
            raise NotAnnounced("its PROXY header is of another family than TCP, or too short")
        size = _FIXED + int(appended)
        if len(seen) >= size:
            self.done = True
            if command == _PROXY:
                self.client = _packed(family, seen)
        return size


def _packed(family: int, seen: bytes) -> Announced | None:
    if family == _TCP4:
        address, port = struct.unpack_from("!4s4xH", seen, _FIXED)
        return str(ipaddress.IPv4Address(address)), port
    if family == _TCP6:
        address, port = struct.unpack_from("!16s16xH", seen, _FIXED)
        return _plain(ipaddress.IPv6Address(address)), port
    return None


def _address(text: bytes, version: int) -> str:
    try:
        if version == 4:
            return str(ipaddress.IPv4Address(text.decode()))
        return _plain(ipaddress.IPv6Address(text.decode()))
    except ValueError:
        raise NotAnnounced("its PROXY header has an address that is none") from None


def _plain(address: ipaddress.IPv6Address) -> str:
    """As text; an IPv4 address that is dressed as IPv6 is undressed, so that it has one spelling."""
    return str(address.ipv4_mapped or address)


def _port(text: bytes) -> int:
    port = int(text)
    if port > 65535:
        raise NotAnnounced("its PROXY header has a port that is none")
    return port
