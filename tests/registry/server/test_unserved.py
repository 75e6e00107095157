"""What the server refuses by itself is told to whoever wants to hear of it, once."""

from __future__ import annotations

import queue

import pytest
from starlette.types import Receive, Scope, Send

from registry.server.lifecycle import Unserved
from tests.registry.server.harness import Running, got, routed, running

HOST = b"Host: registry.test\r\n"


def listened(worker: Running) -> queue.Queue[Unserved]:
    told: queue.Queue[Unserved] = queue.Queue()
    worker.lifecycle.on_unserved = told.put
    return told


CASES = {
    "malformed": (b"GET /v2/ HTTP/1.1\r\nHost : a\r\n\r\n", 400, "GET", b"/v2/"),
    "no host": (b"GET /v2/?n=1 HTTP/1.1\r\n\r\n", 400, "GET", b"/v2/?n=1"),
    "headers too large": (
        b"PUT /v2/ HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
        431,
        "PUT",
        b"/v2/",
    ),
    "unknown method": (b"PROPFIND / HTTP/1.1\r\n" + HOST + b"\r\n", 405, "PROPFIND", b"/"),
    "no HTTP": (b"\x16\x03\x01\x02\x00", 400, "", b""),
}


@pytest.mark.parametrize("name", CASES)
def test_each_is_told_once(name: str) -> None:
    request, status, method, target = CASES[name]
    with running(routed({})) as worker:
        told = listened(worker)
        with worker.client() as client:
            answer = client.ask(request)
            assert client.ended()
        unserved = got(told)
        assert (unserved.status, unserved.method, unserved.target) == (status, method, target)
        assert unserved.client == "127.0.0.1"
        assert unserved.sent == len(answer.body)
        assert unserved.code == ("UNSUPPORTED" if status == 405 else "UNKNOWN")
        assert answer.status == status
    assert told.empty()


def test_headers_that_do_not_come() -> None:
    with running(routed({}), header_timeout=0.2) as worker:
        told = listened(worker)
        with worker.client() as client:
            client.say(b"GET /v2/ HTTP/1.1\r\n" + HOST)
            assert client.answer().status == 408
        assert got(told).status == 408


def test_too_many_connections() -> None:
    with running(routed({}), max_connections=1) as worker:
        told = listened(worker)
        with worker.client() as first, worker.client() as second:
            assert second.answer().status == 503
            unserved = got(told)
            assert (unserved.status, unserved.method, unserved.target) == (503, "", b"")
            assert first.ask(b"GET /v2/ HTTP/1.1\r\n" + HOST + b"\r\n").status == 200


def test_a_refusal_behind_a_request_that_is_served_tells_of_itself_only() -> None:
    with running(routed({})) as worker:
        told = listened(worker)
        with worker.client() as client:
            client.say(b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\nBAD\r\n")
            assert client.answer().status == 200
            assert client.answer().status == 400
        unserved = got(told)
        assert (unserved.status, unserved.target) == (400, b"")
    assert told.empty()


def test_what_the_application_has_seen_is_its_own_to_tell() -> None:
    async def fails(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("a bug")

    async def reads(_scope: Scope, receive: Receive, _send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"

    with running(routed({"/fails": fails, "/reads": reads}), body_timeout=0.2) as worker:
        told = listened(worker)
        with worker.client() as client:
            assert client.ask(b"GET /fails HTTP/1.1\r\n" + HOST + b"\r\n").status == 500
        with worker.client() as client:
            slow = b"PUT /reads HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"
            assert client.ask(slow).status == 408
    assert told.empty()
