"""A small HTTP/1.1 client on a blocking socket, quick enough not to be what is measured.

Downloads are received into one 1 MiB buffer and compared with what they must be, byte for byte, at the
speed of memcmp: no hashing slows the client, and no wrong byte passes.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.bench.content import PIECE, Content

SILENCE = 60
"""Seconds that a server may say nothing, or take nothing, before the sample has failed."""

AGENT = "holdfast-bench"

DOCKER_CHUNK = 32 * 1024
"""What docker puts in one chunk of a chunked body."""

DOCKER_READ = 32 * 1024
"""What docker receives at a time."""


class Unverified(Exception):
    """An answer is not what it must be, so no figure may come of it."""


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    def expect(self, status: int, what: str) -> Self:
        if self.status != status:
            raise Unverified(f"{what} was answered {self.status}, not {status}.")
        return self

    def expect_digest(self, digest: str, what: str) -> Self:
        if (said := self.headers.get("docker-content-digest")) != digest:
            raise Unverified(f"{what} names the digest {said}, not {digest}.")
        return self

    @property
    def length(self) -> int:
        """Content-Length. Raises Unverified where there is none."""
        try:
            return int(self.headers["content-length"])
        except (KeyError, ValueError):
            raise Unverified("An answer has no Content-Length.") from None

    @property
    def location(self) -> str:
        """The path and query of Location, which may be absolute."""
        place = self.headers.get("location", "")
        if "://" in place:
            place = "/" + place.partition("://")[2].partition("/")[2]
        if not place:
            raise Unverified("An answer that must have a Location has none.")
        return place

    @classmethod
    def parse(cls, block: bytes) -> Self:
        """`block` is all that comes before the empty line."""
        first, *lines = block.decode("latin-1").split("\r\n")
        try:
            status = int(first.split(" ", 2)[1])
        except (IndexError, ValueError):
            raise Unverified(f"This is no status line: {first[:80]!r}.") from None
        fields = (line.partition(":") for line in lines)
        return cls(status, {name.strip().lower(): value.strip() for name, _, value in fields})


class Wire:
    """One keep-alive connection to a server on this machine."""

    def __init__(
        self, port: int, *, buffer: int | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """`buffer`: bytes of socket buffer either way, for clients that are to be slow."""
        self.socket = socket.socket()
        self._whole = socket.MSG_WAITALL if tls is None else 0
        # Time-outs in the kernel keep the socket blocking, which MSG_WAITALL needs.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SILENCE, 0))
        if buffer is not None:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self.socket.setsockopt(socket.SOL_SOCKET, option, buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.host = f"127.0.0.1:{port}"
        self.rest = b""
        """What came behind the last head and has not been read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send_head(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        self.socket.sendall(request(method, path, self.host, headers))

    def read_head(self) -> Head:
        """The next final answer; interim ones (1xx) are passed over."""
        while True:
            while b"\r\n\r\n" not in self.rest:
                got = self.socket.recv(65536)
                if not got:
                    raise Unverified("The server closed the connection before it answered.")
                self.rest += got
            block, _, self.rest = self.rest.partition(b"\r\n\r\n")
            head = Head.parse(block)
            if head.status >= 200:
                return head

    def read_body(self, head: Head) -> bytes:
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        body = self.rest
        while len(body) < head.length:
            got = self.socket.recv(65536)
            if not got:
                raise Unverified(f"A body ended after {len(body)} of {head.length} bytes.")
            body += got
        self.rest = body[head.length :]
        return body[: head.length]

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._read_line().partition(b";")[0], 16):
            chunk = self._read_exactly(size + 2)
            body += chunk[:-2]
        while self._read_line():
            pass  # trailers
        return body

    def _read_line(self) -> bytes:
        while b"\r\n" not in self.rest:
            self._receive()
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    def _read_exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._receive()
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def _receive(self) -> None:
        got = self.socket.recv(65536)
        if not got:
            raise Unverified("A chunked body ended early.")
        self.rest += got

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[Head, bytes]:
        """A whole request, and its whole answer."""
        length = {} if body is None else {"Content-Length": str(len(body))}
        self.socket.sendall(
            request(method, path, self.host, {**(headers or {}), **length}) + (body or b"")
        )
        head = self.read_head()
        bodiless = method == "HEAD" or head.status in (204, 304)
        return head, b"" if bodiless else self.read_body(head)

    def read_content(self, head: Head, content: Content) -> None:
        """Receive a body and compare all of it. Raises Unverified where it differs."""
        if head.length != content.size:
            raise Unverified(f"A blob of {content.size} bytes came with length {head.length}.")
        taken = len(self.rest)
        if bytearray(self.rest) != content.slice(0, taken):
            raise Unverified("The first bytes of a blob are wrong.")
        self.rest = b""
        buffer = bytearray(PIECE)
        view = memoryview(buffer)
        while taken < content.size:
            want = content.slice(taken)
            count = self.socket.recv_into(view, len(want), self._whole)
            if count == 0:
                raise Unverified(f"A blob ended after {taken} of {content.size} bytes.")
            # A bytearray on the left makes it one memcmp; two memoryviews go byte by byte.
            got = buffer if count == PIECE else bytearray(view[:count])
            if got != want[:count]:
                raise Unverified(f"A blob differs between bytes {taken} and {taken + count}.")
            taken += count

    def hash_content(self, head: Head, content: Content) -> None:
        """As docker does: receive 32 KiB at a time and hash them. Raises Unverified if it differs."""
        state = hashlib.sha256(self.rest)
        left = head.length - len(self.rest)
        self.rest = b""
        buffer = memoryview(bytearray(DOCKER_READ))
        while left > 0 and (count := self.socket.recv_into(buffer, min(left, DOCKER_READ))):
            state.update(buffer[:count])
            left -= count
        if left or f"sha256:{state.hexdigest()}" != content.digest:
            raise Unverified(f"A blob came with other content than {content.digest}.")

    def send_content(self, content: Content, start: int = 0, size: int | None = None) -> None:
        end = content.size if size is None else start + size
        for offset in range(start, end, PIECE):
            self.socket.sendall(content.slice(offset, end - offset))

    def send_chunked(self, content: Content) -> None:
        """As docker does: a chunked body in chunks of 32 KiB, a MiB to each system call."""
        for piece in content.pieces():
            self._send_all(_chunks(piece))
        self.socket.sendall(b"0\r\n\r\n")

    def _send_all(self, parts: Iterable[memoryview | bytes]) -> None:
        queue = list(parts)
        while queue:
            sent = self.socket.sendmsg(queue)
            while queue and sent >= len(queue[0]):
                sent -= len(queue.pop(0))
            if sent:
                queue[0] = memoryview(queue[0])[sent:]


def request(method: str, path: str, host: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The head of a request, without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"User-Agent: {AGENT}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _chunks(piece: memoryview) -> Iterable[memoryview | bytes]:
    for start in range(0, len(piece), DOCKER_CHUNK):
        chunk = piece[start : start + DOCKER_CHUNK]
        yield b"%x\r\n" % len(chunk)
        yield chunk
        yield b"\r\n"
