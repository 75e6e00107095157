"""What slow, silent and greedy clients get, and that the others do not notice them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from tests.registry.server.harness import Running, got, message, routed, running, say

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
SIZE = 64 * 1024 * 1024
seen: queue.Queue[Any] = queue.Queue()


async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
    try:
        await send(message("start", status=200, headers=[(b"content-length", b"%d" % SIZE)]))
        for _ in range(SIZE >> 20):
            await send(message("body", body=bytes(1 << 20), more_body=True))
        await send(message("body", body=b""))
    except OSError as error:
        seen.put(error)
        raise


async def file(_scope: Scope, _receive: Receive, send: Send) -> None:
    with tempfile.TemporaryFile() as opened:
        os.ftruncate(opened.fileno(), SIZE)
        try:
            await send(message("start", status=200, headers=[(b"content-length", b"%d" % SIZE)]))
            await send(message("zerocopysend", file=opened.fileno(), offset=0, count=SIZE))
        except OSError as error:
            seen.put(error)
            raise


async def medium(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, bytes(8_000_000))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    handlers = {"/large": large, "/file": file, "/medium": medium}
    with running(
        routed(handlers),
        header_timeout=0.4,
        keepalive_timeout=0.8,
        write_timeout=0.4,
        max_connections=250,
    ) as worker:
        yield worker


def test_a_silent_connection_is_closed_silently(server: Running) -> None:
    begun = time.monotonic()
    with server.client() as client:
        assert client.ended()
    assert 0.3 < time.monotonic() - begun < 9


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_headers_that_never_end_get_408(server: Running, start: bytes) -> None:
    """One more byte now and then does not buy time."""
    begun = time.monotonic()
    with server.client() as client:
        client.say(start)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 0.6:
                time.sleep(0.05)
                client.say(b"a" if len(start) > 1 else b"E"[:0])
        assert client.answer().status == 408
        assert client.ended()
    assert time.monotonic() - begun < 9


def test_an_idle_connection_is_kept_for_a_while(server: Running) -> None:
    with server.client() as client:
        for _ in range(3):
            time.sleep(0.3)
            assert client.ask(GET % b"/").status == 200
        begun = time.monotonic()
        assert client.ended()
        assert 0.7 < time.monotonic() - begun < 9


def test_a_second_request_has_its_time_too(server: Running) -> None:
    with server.client() as client:
        assert client.ask(GET % b"/").status == 200
        client.say(b"GET /")
        assert client.answer().status == 408
    with server.client() as client:
        client.say(GET % b"/" + b"GET /")
        assert client.answer().status == 200
        assert client.answer().status == 408


def test_blank_lines_are_not_a_request(server: Running) -> None:
    with server.client() as client:
        assert client.ask(GET % b"/" + b"\r\n").status == 200
        assert client.ended()


@pytest.mark.parametrize("path", [b"/large", b"/file"])
def test_a_client_that_does_not_read_is_cut(server: Running, path: bytes) -> None:
    with server.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        begun = time.monotonic()
        client.say(GET % path)
        assert isinstance(got(seen), OSError)
        assert 0.3 < time.monotonic() - begun < 20
        with pytest.raises(ConnectionResetError):
            while client.socket.recv(65536):
                pass


def test_what_is_left_at_the_end_is_not_waited_for_for_ever(server: Running) -> None:
    with server.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.say(b"GET /medium HTTP/1.0\r\n\r\n")
        time.sleep(1.5)
        with pytest.raises(ConnectionResetError):
            while client.socket.recv(65536):
                pass


@pytest.mark.parametrize("path", [b"/large", b"/file"])
def test_a_slow_reader_is_not_cut(server: Running, path: bytes) -> None:
    with server.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.say(GET % path)
        begun = time.monotonic()
        while time.monotonic() - begun < 2:
            time.sleep(0.1)
            assert client.socket.recv(32768)
    assert isinstance(got(seen), OSError)


def test_slow_clients_do_not_stop_a_fast_one(server: Running) -> None:
    slow = [server.client() for _ in range(200)]
    try:
        for number, client in enumerate(slow):
            client.say(
                [b"", b"GET /", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"][
                    number % 3
                ]
            )
        begun = time.monotonic()
        with server.client() as client:
            for _ in range(100):
                assert client.ask(GET % b"/").status == 200
        assert time.monotonic() - begun < 9
    finally:
        for client in slow:
            client.close()


def test_too_many_connections_are_told_so(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(251)]
        answer = clients[-1].answer()
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        clients[0].close()
        assert clients[1].ask(GET % b"/").status == 200


def test_a_client_that_ignores_its_refusal_is_closed(server: Running) -> None:
    with server.client() as client:
        assert client.ask(b"nonsense\r\n\r\n").status == 400
        begun = time.monotonic()
        with pytest.raises(ConnectionError):
            while True:
                client.say(b"more nonsense")
                time.sleep(0.05)
        assert 1 < time.monotonic() - begun < 20


def test_an_application_that_takes_its_time_is_waited_for() -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)
        await say(send, 200)

    with (
        running(
            routed({"/slow": slow}),
            header_timeout=0.1,
            keepalive_timeout=0.1,
            body_timeout=0.1,
            write_timeout=0.1,
        ) as worker,
        worker.client() as client,
    ):
        assert client.ask(GET % b"/slow").status == 200
