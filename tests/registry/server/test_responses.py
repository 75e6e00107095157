"""How responses leave: framing, keep-alive, order, and what becomes of an application that fails."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import queue
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from registry.server.protocol import Connection
from tests.registry.server.harness import Client, Running, got, message, routed, running, say

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
seen: queue.Queue[Any] = queue.Queue()
gate: queue.Queue[None] = queue.Queue()


async def chunked(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(message("start", status=200))
    for piece in (b"one", b"", b"x" * 200_000):
        await send(message("body", body=piece, more_body=True))
    await send(message("body", body=b"end"))


async def sized(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(message("start", status=200, headers=[(b"Content-Length", b"8")]))
    await send(message("body", body=b"four", more_body=True))
    await send(message("body", body=b"more"))


async def status(scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, int(scope["query_string"]), b"never sent")


async def not_modified(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 304, headers=[(b"content-length", b"99"), (b"etag", b'"a"')])


async def too_long(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, b"four", [(b"content-length", b"3")])


async def too_short(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, b"four", [(b"content-length", b"5")])


async def broken_off(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(message("start", status=200))
    await send(message("body", body=b"x", more_body=True))
    raise ValueError("in the middle")


async def splitting(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, headers=[(b"location", b"/a\r\nset-cookie: evil")])


async def failing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(message("start", status=200))
    raise ValueError("before the body")


async def identified(scope: Scope, _receive: Receive, _send: Send) -> None:
    scope["state"]["request_id"] = "request-7"
    raise ValueError("with an id")


async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return


async def named(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, headers=[(b"docker-content-digest", b"sha256:x"), (b"ETag", b'"x"')])


async def closing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, b"bye", [(b"connection", b"close")])


async def background(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, b"ok")
    raise ValueError("after the response")


async def context(_scope: Scope, _receive: Receive, send: Send) -> None:
    before = VARIABLE.get()
    VARIABLE.set("set")
    await say(send, 200, before.encode())


async def slow(scope: Scope, _receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.02)
    await say(send, 200, scope["query_string"])


async def waiting(_scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
    seen.put("waiting")
    seen.put((await receive())["type"])
    await say(send, 200, b"late")


async def gated(_scope: Scope, _receive: Receive, send: Send) -> None:
    seen.put("waiting")
    while gate.empty():
        await asyncio.sleep(0.01)
    gate.get()
    try:
        await send(message("start", status=200))
        while True:
            await send(message("body", body=b"x" * 1_000_000, more_body=True))
    except OSError as error:
        seen.put(error)
        raise


async def after_response(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await say(send, 200)
    seen.put((await receive())["type"])


async def told(scope: Scope, _receive: Receive, send: Send) -> None:
    seen.put({key: value for key, value in scope.items() if key not in ("extensions", "state")})
    seen.put(sorted(scope["extensions"]))
    await say(send, 200)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    handlers = {
        f"/{handler.__name__}": handler
        for handler in (
            *(chunked, sized, status, not_modified, too_long, too_short, broken_off, splitting),
            *(failing, identified, silent, closing, background, context, slow, waiting, gated),
            *(after_response, told, named),
        )
    }
    with running(routed(handlers)) as worker:
        yield worker


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with server.client() as client:
        yield client


def test_a_small_response_leaves_in_one_piece_with_its_length(client: Client) -> None:
    client.say(GET % b"/v2/")
    received = client.socket.recv(65536)
    assert received.endswith(b"\r\n\r\nGET /v2/")
    assert b"\r\nContent-Length: 8\r\n" in received
    assert b"\r\nDate: " in received
    assert b"Transfer-Encoding" not in received


def test_names_of_headers_are_spelled_as_scripts_look_for_them(client: Client) -> None:
    client.say(GET % b"/named")
    head, _, _ = client.socket.recv(65536).partition(b"\r\n\r\n")
    _, *lines = head.split(b"\r\n")
    names = {line.partition(b":")[0] for line in lines}
    assert names == {b"Docker-Content-Digest", b"Etag", b"Content-Length", b"Date"}


def test_a_body_of_unknown_length_is_chunked(client: Client) -> None:
    answer = client.ask(GET % b"/chunked")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"one" + b"x" * 200_000 + b"end"
    assert client.ask(GET % b"/sized").body == b"fourmore"


def test_head_has_no_body_whatever_the_application_sends(client: Client) -> None:
    for path in (b"/chunked", b"/sized", b"/too_long", b"/v2/"):
        answer = client.ask(b"HEAD %b HTTP/1.1\r\nHost: a\r\n\r\n" % path, "HEAD")
        assert answer.status == 200
        assert "transfer-encoding" not in answer.headers
    assert client.ask(GET % b"/v2/").body == b"GET /v2/"


def test_no_content_and_not_modified(client: Client) -> None:
    for code in (204, 304):
        answer = client.ask(GET % b"/status?%d" % code)
        assert answer.status == code
        assert not {"content-length", "transfer-encoding"} & set(answer.headers)
    assert client.ask(GET % b"/not_modified").headers["content-length"] == "99"
    assert client.ask(GET % b"/v2/").body == b"GET /v2/"


def test_http_1_0(server: Running) -> None:
    with server.client() as client:
        answer = client.ask(b"GET /v2/ HTTP/1.0\r\n\r\n")
        assert answer.headers["connection"] == "close"
        assert client.ended()
    with server.client() as client:
        answer = client.ask(b"GET /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert answer.headers["connection"] == "keep-alive"
        answer = client.ask(b"GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.body.endswith(b"xend")


@pytest.mark.parametrize("path", ["failing", "too_long", "splitting", "silent", "identified"])
def test_a_failure_before_the_body_is_a_500(
    client: Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with caplog.at_level(logging.ERROR, "holdfast.server"):
        answer = client.ask(GET % f"/{path}".encode())
    assert answer.status == 500
    (error,) = json.loads(answer.body)["errors"]
    assert error["code"] == "UNKNOWN"
    assert error["message"].startswith("The registry made a mistake; its log has request id ")
    identifier = error["message"].removesuffix(".").split()[-1]
    assert f"request id {identifier}" in caplog.text
    assert (identifier == "request-7") == (path == "identified")
    assert client.ended()


@pytest.mark.parametrize("path", [b"/broken_off", b"/too_short"])
def test_a_failure_in_the_body_is_no_clean_end(client: Client, path: bytes) -> None:
    client.say(GET % path)
    with pytest.raises(ConnectionResetError):
        while client.socket.recv(65536):
            pass


def test_a_failure_after_the_response_concerns_nobody(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.ask(GET % b"/background").body == b"ok"
    assert client.ask(GET % b"/v2/").body == b"GET /v2/"
    assert "after the response" in caplog.text


def test_the_application_may_end_the_connection(client: Client) -> None:
    assert client.ask(GET % b"/closing").headers["connection"] == "close"
    assert client.ended()


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    count = 100
    client.say(b"".join(GET % b"/slow?%d" % number for number in range(3)))
    client.say(b"".join(GET % b"/%d" % number for number in range(count)))
    assert [client.answer().body for _ in range(3)] == [b"0", b"1", b"2"]
    for number in range(count):
        assert client.answer().body == b"GET /%d" % number


def test_pipelining_is_bounded(server: Running) -> None:
    """Reading stops, so the client of a slow application cannot say more than its buffers hold."""
    with server.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.say(GET % b"/gated")
        assert got(seen) == "waiting"
        client.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(1024):
                client.say((GET % b"/v2/") * 2000)
    gate.put(None)
    assert isinstance(got(seen), OSError)  # and sending tells of a client that is gone


def test_a_pipelined_request_does_not_inherit_the_context_of_another(client: Client) -> None:
    client.say((GET % b"/context") * 3)
    assert [client.answer().body for _ in range(3)] == [b"unset"] * 3


def test_a_client_that_sends_no_more_still_gets_its_answers(client: Client) -> None:
    client.say(b"".join(GET % b"/slow?%d" % number for number in range(30)))
    client.socket.shutdown(socket.SHUT_WR)
    assert [int(client.answer().body) for _ in range(30)] == list(range(30))
    assert client.ended()


def test_receive_tells_of_a_client_that_sends_no_more(client: Client) -> None:
    client.say(GET % b"/waiting")
    assert got(seen) == "waiting"
    client.socket.shutdown(socket.SHUT_WR)
    assert got(seen) == "http.disconnect"
    assert client.answer().body == b"late"


def test_receive_tells_of_the_end(server: Running, client: Client) -> None:
    client.ask(GET % b"/after_response")
    assert got(seen) == "http.disconnect"


def test_the_scope(server: Running, client: Client) -> None:
    client.ask(b"GET /told?a=%2f&b HTTP/1.1\r\nHOST: a \r\nX-Y:\r\n\r\n")
    scope = got(seen)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", server.port),
        "client": client.socket.getsockname(),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/told",
        "raw_path": b"/told",
        "query_string": b"a=%2f&b",
        "headers": [(b"host", b"a"), (b"x-y", b"")],
    }
    assert got(seen) == ["holdfast.body", "http.response.zerocopysend"]
    raw = client.ask(GET % b"/%74old/%2e%2E//x").body
    assert raw == b"GET /%74old/%2e%2E//x"


def test_nodelay_is_set(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer in two writes must not wait for the client's delayed acknowledgement."""
    made = Connection.connection_made

    def look(connection: Connection, transport: asyncio.BaseTransport) -> None:
        with transport.get_extra_info("socket").dup() as duplicate:
            seen.put(duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(connection, transport)

    monkeypatch.setattr(Connection, "connection_made", look)
    with server.client() as client:
        client.ask(GET % b"/sized")
    assert got(seen) == 1


def test_a_request_that_meets_the_stop_is_answered(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a connection whose bytes lie unread would reset it: only silent ones are closed."""
    made: list[Connection] = []
    original = Connection.connection_made

    def note(connection: Connection, transport: asyncio.BaseTransport) -> None:
        made.append(connection)
        original(connection, transport)

    async def stop(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.put("stopping")
        gate.get(timeout=10)  # blocks the loop, so that what comes meanwhile stays unread
        for connection in made:
            connection.shutdown()
        await say(send, 200)

    monkeypatch.setattr(Connection, "connection_made", note)
    with (
        running(routed({"/stop": stop})) as worker,
        worker.client() as stopping,
        worker.client() as silent,
        worker.client() as speaking,
        worker.client() as fresh,
    ):
        assert silent.ask(GET % b"/").status == 200
        assert speaking.ask(GET % b"/").status == 200
        stopping.say(GET % b"/stop")
        assert got(seen) == "stopping"
        speaking.say(GET % b"/")
        gate.put(None)
        assert stopping.answer().headers["connection"] == "close"
        assert silent.ended()
        assert speaking.answer().headers["connection"] == "close"
        assert fresh.ask(GET % b"/").headers["connection"] == "close"
