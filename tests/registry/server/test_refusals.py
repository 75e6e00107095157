"""What the server refuses by itself, said over a raw socket to a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.registry.server.harness import Client, Running, routed, running

HOST = b"Host: registry.test\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(routed({})) as worker:
        yield worker


def get(*headers: bytes, target: bytes = b"/v2/", line: bytes | None = None) -> bytes:
    head = b"\r\n".join([line or b"GET " + target + b" HTTP/1.1", *headers])
    return head + b"\r\n\r\n"


def put(*headers: bytes) -> bytes:
    return get(HOST.strip(), *headers, line=b"PUT /v2/ HTTP/1.1")


REFUSED = {
    "two lengths, equal": (put(b"Content-Length: 3", b"Content-Length: 3") + b"abc", 400),
    "two lengths, different": (put(b"Content-Length: 3", b"Content-Length: 4") + b"abcd", 400),
    "length then chunked": (put(b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
    "chunked then length": (put(b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
    "length +3": (put(b"Content-Length: +3") + b"abc", 400),
    "length -3": (put(b"Content-Length: -3"), 400),
    "length 0x3": (put(b"Content-Length: 0x3") + b"abc", 400),
    "length 3,3": (put(b"Content-Length: 3,3") + b"abc", 400),
    "length 1_0": (put(b"Content-Length: 1_0"), 400),
    "length empty": (put(b"Content-Length:"), 400),
    "length in arabic digits": (put("Content-Length: \u0663".encode()), 400),
    "length of 20 digits": (put(b"Content-Length: 00000000000000000003") + b"abc", 400),
    "length overflowing": (put(b"Content-Length: 99999999999999999999"), 400),
    "coding xchunked": (put(b"Transfer-Encoding: xchunked"), 400),
    "coding identity": (put(b"Transfer-Encoding: identity"), 400),
    "coding chunked, identity": (put(b"Transfer-Encoding: chunked, identity"), 400),
    "coding gzip, chunked": (put(b"Transfer-Encoding: gzip, chunked"), 400),
    "coding chunked, chunked": (put(b"Transfer-Encoding: chunked, chunked"), 400),
    "coding twice": (put(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "coding with a vertical tab": (put(b"Transfer-Encoding: \x0bchunked"), 400),
    "coding in HTTP/1.0": (
        get(HOST.strip(), b"Transfer-Encoding: chunked", line=b"PUT / HTTP/1.0"),
        400,
    ),
    "no host": (get(), 400),
    "two hosts": (get(b"Host: a", b"Host: a"), 400),
    "two hosts, one empty": (get(b"Host:", b"Host: a"), 400),
    "host with a path": (get(b"Host: a/b"), 400),
    "host with a space": (get(b"Host: a b"), 400),
    "another host in the target": (get(b"Host: a", target=b"http://b/v2/"), 400),
    "user info in the target": (get(b"Host: a", target=b"http://u@a/v2/"), 400),
    "folded header": (get(HOST.strip(), b"X: a\r\n b"), 400),
    "folded first header": (get(b" X: a", HOST.strip()), 400),
    "space before the colon": (get(b"Host : a"), 400),
    "NUL in a value": (get(HOST.strip(), b"X: a\0b"), 400),
    "control in a value": (get(HOST.strip(), b"X: a\x01b"), 400),
    "bare CR": (get(b"Host: a\rX: b"), 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "no colon": (get(HOST.strip(), b"abc"), 400),
    "empty name": (get(HOST.strip(), b": x"), 400),
    "name with a parenthesis": (get(HOST.strip(), b"a(b: x"), 400),
    "NUL in the target": (get(HOST.strip(), target=b"/a\0b"), 400),
    "control in the target": (get(HOST.strip(), target=b"/a\x01b"), 400),
    "byte beyond ASCII in the target": (get(HOST.strip(), target=b"/a\xe9"), 400),
    "fragment": (get(HOST.strip(), target=b"/a#b"), 400),
    "another scheme": (get(HOST.strip(), target=b"ftp://registry.test/"), 400),
    "OPTIONS *": (get(HOST.strip(), line=b"OPTIONS * HTTP/1.1"), 400),
    "CONNECT": (get(HOST.strip(), line=b"CONNECT registry.test:443 HTTP/1.1"), 405),
    "TRACE": (get(HOST.strip(), line=b"TRACE / HTTP/1.1"), 405),
    "PROPFIND": (get(HOST.strip(), line=b"PROPFIND / HTTP/1.1"), 405),
    "RTSP": (get(HOST.strip(), line=b"DESCRIBE / RTSP/1.0"), 405),
    "unknown method": (get(HOST.strip(), line=b"FETCH / HTTP/1.1"), 400),
    "lower-case method": (get(HOST.strip(), line=b"get / HTTP/1.1"), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/2.0": (get(HOST.strip(), line=b"GET / HTTP/2.0"), 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/1.2": (get(HOST.strip(), line=b"GET / HTTP/1.2"), 400),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    "expectation": (put(b"Expect: 200-ok", b"Content-Length: 3"), 417),
    "long target": (get(HOST.strip(), target=b"/" + b"a" * 8192), 414),
    "very long target": (b"GET /" + b"a" * 1_000_000, 414),
    "large header": (get(HOST.strip(), b"X: " + b"a" * 16384), 431),
    "large name": (get(HOST.strip(), b"X" * 20000 + b": a"), 431),
    "many headers": (get(HOST.strip(), *[b"X: a"] * 100), 431),
    "many large headers": (get(HOST.strip(), *[b"X: " + b"a" * 400] * 50), 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_an_envelope_and_closed(server: Running, name: str) -> None:
    request, status = REFUSED[name]
    with server.client() as client:
        answer = client.ask(request)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["connection"] == "close"
        (error,) = json.loads(answer.body)["errors"]
        assert error["code"] == ("UNSUPPORTED" if status == 405 else "UNKNOWN")
        assert error["message"].endswith(".")
        assert ("allow" in answer.headers) == (status == 405)
        assert client.ended()


@pytest.mark.parametrize(
    "request_bytes",
    [
        get(HOST.strip(), target=b"/" + b"a" * 8191),
        get(HOST.strip(), *[b"X: a"] * 99),
        get(HOST.strip(), b"X: " + b"a" * 16000),
        get(b"Host: [::1]:5000"),
        get(b"Host:"),
        get(b"Host: a", target=b"http://A/v2/"),
        b"\r\n" + get(HOST.strip()),
        get(HOST.strip(), b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"),
        get(HOST.strip(), b"Upgrade: websocket", b"Connection: upgrade"),
        get(line=b"GET / HTTP/1.0"),
    ],
    ids=lambda request: repr(request[:40]),
)
def test_served(server: Running, request_bytes: bytes) -> None:
    with server.client() as client:
        assert client.ask(request_bytes).status == 200


def test_tls_on_a_plain_port_is_called_by_its_name(server: Running) -> None:
    """The engines try it first: what the log says must not send anybody looking elsewhere."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with server.client() as client:
        (error,) = json.loads(client.ask(hello).body)["errors"]
        assert "(a TLS handshake, and this port speaks plain HTTP)" in error["message"]


def test_the_target_of_an_absolute_form_is_its_path(server: Running) -> None:
    with server.client() as client:
        assert client.ask(get(b"Host: a", target=b"http://a/v2/%2e?x")).body == b"GET /v2/%2e"
        assert client.ask(get(b"Host: a", target=b"http://a")).body == b"GET /"


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", b"GET /"])
def test_headers_without_end_are_not_kept(server: Running, start: bytes) -> None:
    """64 MiB of one header line: refused after the limit, and never held."""
    before = resident_bytes()
    with server.client() as client:
        client.say(start)
        sent = 0
        piece = b"a" * 65536
        try:
            while sent < 64 * 1024 * 1024:
                client.say(piece)
                sent += len(piece)
        except ConnectionError:
            pass
        assert resident_bytes() - before < 16 * 1024 * 1024


def test_a_refusal_waits_for_the_answers_before_it(server: Running) -> None:
    with server.client() as client:
        client.say(get(HOST.strip(), target=b"/1") + get(HOST.strip(), target=b"/2") + b"BAD\r\n")
        assert client.answer().body == b"GET /1"
        assert client.answer().body == b"GET /2"
        assert client.answer().status == 400
        assert client.ended()


def test_a_refusal_can_be_read_while_the_client_still_sends(server: Running) -> None:
    with server.client() as client:
        client.say(put(b"Content-Length: 3", b"Content-Length: 3"))
        for _ in range(64):
            client.say(bytes(65536))
        assert client.answer().status == 400


def test_what_follows_the_last_request_is_ignored(server: Running) -> None:
    with Client(server.port) as client:
        closing = get(HOST.strip(), b"Connection: close")
        assert client.ask(closing + closing).headers["connection"] == "close"
        assert client.ended()


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
