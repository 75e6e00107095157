"""How a request's body reaches the application, whole, bounded in memory, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import queue
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from registry.streaming import ClientGone
from tests.registry.server.harness import Client, Running, got, message, routed, running, say

seen: queue.Queue[Any] = queue.Queue()


async def read(scope: Scope, _receive: Receive, send: Send) -> None:
    body = scope["extensions"]["holdfast.body"]
    digest = hashlib.sha256()
    while pieces := await body.read(65536):
        for piece in pieces:
            assert piece
            digest.update(piece)
    assert await body.read(1) == []
    answer = f"{body.expected} {body.received} {digest.hexdigest()}"
    await say(send, 200, answer.encode())


async def received(_scope: Scope, receive: Receive, send: Send) -> None:
    digest = hashlib.sha256()
    size = 0
    more = True
    while more:
        event = await receive()
        digest.update(event["body"])
        size += len(event["body"])
        more = event["more_body"]
    await say(send, 200, f"{size} {digest.hexdigest()}".encode())


async def interrupted(scope: Scope, _receive: Receive, send: Send) -> None:
    body = scope["extensions"]["holdfast.body"]
    size = 0
    seen.put("begun")
    try:
        while pieces := await body.read(1 << 20):
            size += sum(map(len, pieces))
    except ClientGone:
        seen.put(size)
        raise
    await say(send, 200)


async def swallowing(scope: Scope, _receive: Receive, _send: Send) -> None:
    try:
        while await scope["extensions"]["holdfast.body"].read(1 << 20):
            pass
    except ClientGone:
        seen.put("swallowed")


async def disconnected(_scope: Scope, receive: Receive, _send: Send) -> None:
    while (event := await receive())["type"] != "http.disconnect":
        pass
    seen.put(event["type"])


async def unread(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 401, b"no")


async def held(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads nothing until the client has been told, by the first part of the answer, to look."""
    body = scope["extensions"]["holdfast.body"]
    body.window = 100_000
    await send(message("start", status=200))
    await send(message("body", body=b"go", more_body=True))
    seen.put(body)
    size = 0
    while gate.empty():
        await asyncio.sleep(0.01)
    gate.get()
    while pieces := await body.read(1 << 20):
        size += sum(map(len, pieces))
    await send(message("body", body=b"%d" % size))


gate: queue.Queue[None] = queue.Queue()


async def growing(scope: Scope, _receive: Receive, send: Send) -> None:
    """A window that is full, and then larger, as that of an upload beside which others have ended."""
    body = scope["extensions"]["holdfast.body"]
    body.window = 10_000
    while not body.full:
        await asyncio.sleep(0.01)
    body.window = body.batch = 200_000
    size = 0
    while pieces := await body.read(1 << 20):
        size += sum(map(len, pieces))
    await say(send, 200, b"%d" % size)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    handlers = {
        f"/{handler.__name__}": handler
        for handler in (
            read,
            received,
            interrupted,
            swallowing,
            disconnected,
            unread,
            held,
            growing,
        )
    }
    with running(routed(handlers), body_timeout=0.4) as worker:
        yield worker


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with server.client() as client:
        yield client


def put(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"PUT /{path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def chunks(data: bytes, sizes: list[int]) -> bytes:
    out = b""
    for size in sizes:
        piece, data = data[:size], data[size:]
        if piece:
            out += b"%x;ext=1\r\n%b\r\n" % (len(piece), piece)
    return out + (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + b"0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 4000, 4096, 5000, 65536, 3_000_001])
@pytest.mark.parametrize("path", ["read", "received"])
def test_a_body_arrives_whole(client: Client, size: int, path: str) -> None:
    data = random.Random(size).randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    length = f"Content-Length: {size}"
    known = f"{size} {size} {digest}" if path == "read" else f"{size} {digest}"
    unknown = f"None {size} {digest}" if path == "read" else f"{size} {digest}"
    coded = chunks(data, [1, 1, 2, 10, 65536, 1_000_000])
    for _ in range(2):
        assert client.ask(put(path, length) + data).body == known.encode()
        assert client.ask(put(path, "Transfer-Encoding: Chunked") + coded).body == unknown.encode()
    client.say(put(path, length))
    time.sleep(0.01)
    client.say(data)
    assert client.answer().body == known.encode()


def test_bodies_and_requests_in_one_stream_split_anywhere(client: Client) -> None:
    """However TCP cuts it, what is body and what is the next request stays the same."""
    bodies = [b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n" * 3, b"", b"a" * 9000, b"0\r\n\r\n"]
    stream = b""
    expected = []
    for data in bodies:
        stream += put("received", f"Content-Length: {len(data)}") + data
        stream += put("received", "Transfer-Encoding: chunked") + chunks(data, [3, 50])
        expected += [f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode()] * 2
    source = random.Random(5)
    for longest in (1, 7, 100, 5000, 1_000_000):
        rest = stream
        while rest:
            size = source.randint(1, longest)
            client.say(rest[:size])
            rest = rest[size:]
        assert [client.answer().body for _ in expected] == expected


@pytest.mark.parametrize("coded", [False, True])
def test_the_body_of_a_declined_upgrade_is_a_body(client: Client, coded: bool) -> None:
    data = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n" * 200
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    digest = hashlib.sha256(data).hexdigest()
    if coded:
        request = put("received", *upgrade, "Transfer-Encoding: chunked") + chunks(data, [10])
    else:
        request = put("received", *upgrade, f"Content-Length: {len(data)}") + data
    assert client.ask(request).body == f"{len(data)} {digest}".encode()
    if coded:
        assert client.ended()
    else:
        assert client.ask(put("received")).status == 200


BAD_CHUNKS = {
    "bad terminator": b"3\r\nabcXX0\r\n\r\n",
    "bare LF": b"3\nabc\n0\n\n",
    "sign": b"-3\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "space": b"3 \r\nabc\r\n0\r\n\r\n",
    "overflow": b"fffffffffffffffff\r\nabc\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "endless extension": b"3;" + b"a" * 600_000,
    "endless trailer": b"3\r\nabc\r\n0\r\nX: " + b"a" * 600_000,
    "many trailers": b"3\r\nabc\r\n0\r\n" + b"X: a\r\n" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_broken_chunks_are_refused(client: Client, name: str) -> None:
    client.say(put("swallowing", "Transfer-Encoding: chunked") + BAD_CHUNKS[name])
    assert got(seen) == "swallowed"
    assert client.answer().status == 400
    assert client.ended()


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_what_came_before_a_disconnect_is_kept(client: Client, framing: str) -> None:
    client.say(put("interrupted", framing))
    assert got(seen) == "begun"
    client.say(b"x" * 50000 if "Length" in framing else b"c350\r\n" + b"x" * 50000 + b"\r\n")
    client.socket.shutdown(socket.SHUT_WR)
    assert got(seen) == 50000
    assert client.ended()


def test_receive_tells_of_a_disconnect(client: Client) -> None:
    client.say(put("disconnected", "Content-Length: 10") + b"abc")
    client.close()
    assert got(seen) == "http.disconnect"


@pytest.mark.parametrize("path", ["interrupted", "swallowing"])
@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_stalled_body_ends_with_408(client: Client, framing: str, path: str) -> None:
    begun = time.monotonic()
    client.say(put(path, framing) + b"3\r\n")
    assert client.answer().status == 408
    assert 0.3 < time.monotonic() - begun < 20
    assert client.ended()
    while not seen.empty():
        seen.get()


def test_a_slow_body_that_keeps_coming_is_served(client: Client) -> None:
    client.say(put("received", "Content-Length: 12"))
    for _ in range(12):
        time.sleep(0.08)
        client.say(b"x")
    assert client.answer().body.startswith(b"12 ")


def test_an_unread_body_pauses_the_client(client: Client) -> None:
    size = 16 * 1024 * 1024
    client.say(put("held", f"Content-Length: {size}"))
    body = got(seen)
    client.socket.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < size:
            sent += client.socket.send(bytes(min(65536, size - sent)))
    assert body.received < 100_000 + 512 * 1024
    gate.put(None)
    client.socket.settimeout(10)
    while sent < size:
        sent += client.socket.send(bytes(min(65536, size - sent)))
    assert client.answer().body == b"go%d" % size


def test_100_continue_comes_when_the_application_reads(client: Client) -> None:
    for path in ("read", "received"):
        client.say(put(path, "Content-Length: 3", "Expect: 100-Continue"))
        assert client.answer().status == 100
        assert client.ask(b"abc").status == 200


def test_no_100_continue_when_it_does_not(client: Client) -> None:
    answer = client.ask(put("unread", "Content-Length: 3", "Expect: 100-continue"))
    assert answer.status == 401
    assert answer.headers["connection"] == "close"
    assert client.ended()


@pytest.mark.parametrize(
    "request_bytes",
    [
        put("received", "Content-Length: 3", "Expect: 100-continue") + b"abc",
        put("received", "Content-Length: 0", "Expect: 100-continue"),
        put("received", "Content-Length: 3", "Expect: 100-continue").replace(b"1.1", b"1.0")
        + b"abc",
    ],
)
def test_no_100_continue_where_none_is_due(client: Client, request_bytes: bytes) -> None:
    assert client.ask(request_bytes).status == 200


def test_the_small_rest_of_a_body_is_read_to_keep_the_connection(client: Client) -> None:
    answer = client.ask(put("unread", "Content-Length: 60000"))
    assert answer.status == 401
    assert "connection" not in answer.headers
    client.say(b"x" * 60000)
    assert client.ask(put("received", "Content-Length: 0")).status == 200


@pytest.mark.parametrize("framing", ["Content-Length: 70000", "Transfer-Encoding: chunked"])
def test_the_large_rest_of_a_body_ends_the_connection(client: Client, framing: str) -> None:
    client.say(put("unread", framing))
    answer = client.answer()
    assert answer.status == 401
    assert answer.headers["connection"] == "close"
    assert client.ended()


def test_the_answer_can_be_read_while_the_body_is_still_sent(client: Client) -> None:
    client.say(put("unread", "Content-Length: 1000000000"))
    for _ in range(128):
        client.say(bytes(65536))
    assert client.answer().status == 401


@pytest.mark.parametrize("chunked", [False, True])
def test_a_window_that_grows_while_it_is_full_is_filled(client: Client, chunked: bool) -> None:
    size = 1_000_000
    if chunked:
        client.say(b"PUT /growing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.say((b"%x\r\n" % 50_000 + bytes(50_000) + b"\r\n") * 20 + b"0\r\n\r\n")
    else:
        client.say(b"PUT /growing HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        client.say(bytes(size))
    assert client.answer().body == b"%d" % size
