"""Many clients at once, in one thread.

`ask` repeats a small request over several keep-alive connections and checks every answer. `Slow` and
its kinds are transfers that go on only as far as they are driven, so that any number of them can be
held in progress at the same time.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import select
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.bench.content import Content
from tests.bench.transfers import finish_upload, start_upload
from tests.bench.wire import SILENCE, Head, Unverified, Wire

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SLOW_BUFFER = 256 * 1024
_STEP = 256 * 1024


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer that every one of the requests must get. `body` is None for HEAD."""

    length: int
    digest: str
    body: bytes | None

    def check(self, head: bytes, body: bytes) -> None:
        answer = Head.parse(head).expect(200, "A request")
        if answer.length != self.length:
            raise Unverified(f"An answer's length is {answer.length}, not {self.length}.")
        answer.expect_digest(self.digest, "An answer")
        if body != (self.body or b""):
            raise Unverified("An answer's body is not the one that was pushed.")


Question = tuple[bytes, Expected]
"""A request, and the answer that it must get."""


def ask(
    port: int, request: bytes, expected: Expected, *, count: int, connections: int
) -> list[float]:
    """Send `request` `count` times, as `ask_each` does."""
    return ask_each(port, itertools.repeat((request, expected), count), connections)


def ask_each(port: int, questions: Iterable[Question], connections: int) -> list[float]:
    """Send each request, one at a time on each connection; seconds that each one took.

    Raises Unverified at the first answer that is not what is expected.
    """
    waiting = iter(questions)
    wires: dict[int, Wire] = {}
    asked: dict[int, tuple[Expected, float]] = {}
    taken: list[float] = []

    def send(descriptor: int) -> None:
        question = next(waiting, None)
        if question is None:
            asked.pop(descriptor, None)
            return
        asked[descriptor] = question[1], time.perf_counter()
        wires[descriptor].socket.sendall(question[0])

    with contextlib.ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        for _ in range(connections):
            wire = stack.enter_context(Wire(port))
            descriptor = wire.socket.fileno()
            wires[descriptor] = wire
            poll.register(descriptor, select.EPOLLIN)
            send(descriptor)
        while asked:
            ready = poll.poll(SILENCE)
            if not ready:
                raise Unverified(f"No answer came for {SILENCE} s.")
            for descriptor, _ in ready:
                expected, began = asked[descriptor]
                if _take(wires[descriptor], expected):
                    taken.append(time.perf_counter() - began)
                    send(descriptor)
    return taken


def _take(wire: Wire, expected: Expected) -> bool:
    """Receive what is there; whether the answer is complete, and then it has been checked."""
    got = wire.socket.recv(65536)
    if not got:
        raise Unverified("The server closed a connection between requests.")
    wire.rest += got
    end = wire.rest.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = wire.rest[:end]
    body_length = 0
    if expected.body is not None:
        length = _LENGTH.search(head)
        if length is None:
            raise Unverified("An answer has no Content-Length.")
        body_length = int(length[1])
    if len(wire.rest) < end + 4 + body_length:
        return False
    expected.check(head, wire.rest[end + 4 :])
    wire.rest = b""
    return True


class Slow(Protocol):
    """A transfer in progress."""

    wire: Wire
    content: Content
    moved: int
    event: int
    """What epoll is to wait for."""

    def step(self, most: int) -> None:
        """Move what can be moved now, at most `most` bytes."""


class SlowDownload:
    """GET of a blob whose head has been read; every byte is compared as it comes."""

    event = select.EPOLLIN

    def __init__(self, port: int, repository: str, content: Content) -> None:
        self.content = content
        self.wire = Wire(port, buffer=_SLOW_BUFFER)
        self.wire.send_head("GET", f"/v2/{repository}/blobs/{content.digest}")
        head = self.wire.read_head().expect(200, "GET of a blob")
        head.expect_digest(content.digest, "GET of a blob")
        if head.length != content.size:
            raise Unverified(f"A blob of {content.size} bytes came with length {head.length}.")
        self.moved = len(self.wire.rest)
        if bytearray(self.wire.rest) != content.slice(0, self.moved):
            raise Unverified("The first bytes of a blob are wrong.")
        self._buffer = memoryview(bytearray(_STEP))

    def step(self, most: int) -> None:
        want = self.content.slice(self.moved, min(most, _STEP))
        count = self.wire.socket.recv_into(self._buffer, len(want), socket.MSG_DONTWAIT)
        if count == 0:
            raise Unverified(f"A download ended after {self.moved} of {self.content.size} bytes.")
        if bytearray(self._buffer[:count]) != want[:count]:
            raise Unverified(f"A download differs behind byte {self.moved}.")
        self.moved += count


class SlowUpload:
    """PATCH of an upload, with Content-Length, whose head has been sent."""

    event = select.EPOLLOUT

    def __init__(self, port: int, repository: str, content: Content) -> None:
        self.content = content
        self.wire = Wire(port, buffer=_SLOW_BUFFER)
        self.moved = 0
        self.wire.send_head(
            "PATCH",
            start_upload(self.wire, repository),
            {"Content-Type": "application/octet-stream", "Content-Length": str(content.size)},
        )

    def step(self, most: int) -> None:
        piece = self.content.slice(self.moved, min(most, _STEP))
        self.moved += self.wire.socket.send(piece, socket.MSG_DONTWAIT)

    def finish(self) -> None:
        """Close the upload, all of which has been sent, with its digest."""
        head = self.wire.read_head().expect(202, "PATCH")
        finish_upload(self.wire, head.location, self.content.digest)


def drive(transfers: Sequence[Slow], until: int) -> None:
    """Bring every transfer, in turn and in small steps, to `until` bytes."""
    poll = select.epoll()
    waiting: dict[int, Slow] = {}
    for transfer in transfers:
        if transfer.moved < until:
            waiting[transfer.wire.socket.fileno()] = transfer
            poll.register(transfer.wire.socket.fileno(), transfer.event)
    try:
        while waiting:
            ready = poll.poll(SILENCE)
            if not ready:
                raise Unverified(f"{len(waiting)} transfers stood still for {SILENCE} s.")
            for descriptor, _ in ready:
                transfer = waiting[descriptor]
                with contextlib.suppress(BlockingIOError):  # epoll may report too early
                    transfer.step(until - transfer.moved)
                if transfer.moved >= until:
                    poll.unregister(descriptor)
                    del waiting[descriptor]
    finally:
        poll.close()
