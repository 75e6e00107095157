"""Requests that were damaged on the way: answered or closed, never an error of ours."""

from __future__ import annotations

import logging
import random
import re
import socket

import pytest
from starlette.types import Receive, Scope, Send

from tests.registry.server.harness import Client, routed, running, say

WELL_FORMED = [
    b"GET /v2/ HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"PUT /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"PATCH /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /unread HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    b"GET http://a/v2/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"HEAD /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b":",
    b"\xff",
    b"Content-Length: 7\r\n",
    b"0\r\n\r\n",
    b"a" * 5000,
]
STATUSES = {100, 200, 400, 401, 405, 408, 414, 417, 431, 500, 505}


def damaged(source: random.Random) -> bytes:
    data = bytearray(b"".join(source.choices(WELL_FORMED, k=source.randint(1, 4))))
    for _ in range(source.randint(0, 4)):
        at = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at : at + source.randint(1, 20)]
            case 2:
                data[at:at] = source.choice(TOKENS)
            case _:
                data[at:at] = data[at : at + source.randint(1, 60)]
    return bytes(data)


async def read(scope: Scope, receive: Receive, send: Send) -> None:
    while (event := await receive()).get("more_body"):
        pass
    if event["type"] == "http.request":
        await say(send, 200)


async def unread(scope: Scope, receive: Receive, send: Send) -> None:
    await say(send, 401)


def test_noise(caplog: pytest.LogCaptureFixture) -> None:
    source = random.Random(7)
    with (
        caplog.at_level(logging.WARNING),
        running(routed({"/read": read, "/unread": unread}), body_timeout=0.2) as worker,
    ):
        for _ in range(400):
            data = damaged(source)
            with Client(worker.port) as client:
                cut = source.randrange(len(data) + 1)
                try:
                    client.say(data[:cut])
                    client.say(data[cut:])
                    client.socket.shutdown(socket.SHUT_WR)
                    received = client.file.read()
                except OSError:  # more after a last request: the server has closed
                    continue
                assert set(map(int, re.findall(rb"HTTP/1\.1 (\d{3}) ", received))) <= STATUSES
        with Client(worker.port) as client:
            assert client.ask(WELL_FORMED[0]).status == 200
    assert not caplog.records
