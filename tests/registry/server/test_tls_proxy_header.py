"""Clients announced by a balancer, with TLS behind the announcement and without."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from registry.server.proxy_header import MAX_APPENDED, NotAnnounced, ProxyHeader
from tests.registry.server.harness import PATIENCE, routed, say
from tests.registry.server.tls_harness import NAME, Files, Secured, secured

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 443)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack("!HH", 4711, 443)
)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") + V6[16:]
LINE = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"
GET = b"GET /client HTTP/1.1\r\nHost: a\r\n\r\n"


def binary(command: int, family: int, appended: bytes, length: int | None = None) -> bytes:
    size = len(appended) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + appended


GOOD = [
    (LINE, ("192.0.2.7", 4711)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", ("2001:db8::7", 4711)),
    (b"PROXY TCP6 2001:0DB8:0::7 2001:db8::1 65535 0\r\n", ("2001:db8::7", 65535)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 443\r\n", ("192.0.2.7", 4711)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (binary(0x21, 0x11, V4), ("192.0.2.7", 4711)),
    (binary(0x21, 0x11, V4 + b"\x04\x00\x03abc"), ("192.0.2.7", 4711)),
    (binary(0x21, 0x21, V6), ("2001:db8::7", 4711)),
    (binary(0x21, 0x21, MAPPED), ("192.0.2.7", 4711)),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x31, bytes(216)), None),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, V4), None),
    (binary(0x21, 0x11, V4 + bytes(MAX_APPENDED - 12)), ("192.0.2.7", 4711)),
]
BAD = [
    GET,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"proxy TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n",
    b"PROXY TCP4  192.0.2.7 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443 \r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.07 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
    b"PROXY TCP6 192.0.2.7 192.0.2.1 4711 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 04711 443\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
    b"PROXY UDP4 192.0.2.7 192.0.2.1 4711 443\r\n",
    b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
    b"PROXY " + b"A" * 200,
    SIGNATURE[:-1] + b"X" + bytes(20),
    binary(0x11, 0x11, V4),
    binary(0x22, 0x11, V4),
    binary(0x21, 0x12, V4),
    binary(0x21, 0x11, V4[:-1]),
    binary(0x21, 0x21, V4),
    binary(0x21, 0x31, bytes(215)),
    binary(0x21, 0x41, bytes(40)),
    binary(0x21, 0x11, V4, MAX_APPENDED + 1),
    binary(0x20, 0x00, b"", 65535),
]


def read(data: bytes, at_once: int) -> tuple[ProxyHeader, int]:
    """Offer the bytes again and again, as a socket does that is peeked into."""
    header, taken = ProxyHeader(), 0
    while not header.done:
        offered = data[taken : taken + at_once]
        assert offered
        step = header.take(offered)
        assert 0 < step <= len(offered)
        taken += step
    return header, taken


@pytest.mark.parametrize("at_once", [1, 2, 7, 16, 4096])
@pytest.mark.parametrize(("data", "client"), GOOD)
def test_headers(data: bytes, client: tuple[str, int] | None, at_once: int) -> None:
    header, taken = read(data + GET, at_once)
    assert taken == len(data)
    assert header.client == client


@pytest.mark.parametrize("at_once", [1, 7, 4096])
@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header(data: bytes, at_once: int) -> None:
    with pytest.raises(NotAnnounced):
        read(data + GET, at_once)


async def client_of(scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, 200, json.dumps([scope["client"], scope["scheme"]]).encode())


async def file(_scope: Scope, _receive: Receive, send: Send) -> None:
    with tempfile.TemporaryFile() as source:
        source.write(bytes(SIZE))
        source.flush()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.zerocopysend", "file": source.fileno(), "offset": 0})


SIZE = 8 * 1024 * 1024
APP = routed({"/client": client_of, "/file": file})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def plain() -> Iterator[Secured]:
    with secured(APP, None, proxyprotocol=("127.0.0.0/8",), header_timeout=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def tls(files: Files) -> Iterator[Secured]:
    with secured(APP, files.settings(), proxyprotocol=("127.0.0.1",)) as running:
        yield running


def connect(server: Secured) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def answer(client: socket.socket) -> object:
    head, _, body = client.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return json.loads(body)


@pytest.mark.parametrize(("data", "announced"), GOOD)
def test_the_announced_client_is_the_client(
    plain: Secured, data: bytes, announced: tuple[str, int] | None
) -> None:
    with connect(plain) as client:
        client.sendall(data + GET)
        expected = announced or client.getsockname()
        assert answer(client) == [list(expected), "http"]
        client.sendall(GET)  # the connection is kept, and so is the name
        assert answer(client) == [list(expected), "http"]


def test_files_are_sent_as_without_a_balancer(plain: Secured) -> None:
    with plain.bare() as client:
        client.say(LINE)
        body = client.ask(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n").body
        assert body == bytes(SIZE)


def test_a_header_in_pieces(plain: Secured) -> None:
    with connect(plain) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in LINE + GET[:20]:
            client.sendall(bytes([byte]))
        client.sendall(GET[20:])
        assert answer(client) == [["192.0.2.7", 4711], "http"]


def test_a_header_before_the_handshake(tls: Secured, files: Files) -> None:
    for data, announced in GOOD:
        with connect(tls) as bare:
            bare.sendall(data)
            expected = announced or bare.getsockname()
            with files.client_context().wrap_socket(bare, server_hostname=NAME) as client:
                client.sendall(GET)
                assert answer(client) == [list(expected), "https"]


def test_a_header_in_one_segment_with_the_handshake(tls: Secured, files: Files) -> None:
    """As a balancer writes it that has the client's first bytes already."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = files.client_context().wrap_bio(incoming, outgoing, server_hostname=NAME)
    with connect(tls) as bare:
        first = LINE
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                bare.sendall(first + outgoing.read())
                first = b""
                incoming.write(bare.recv(65536))
        client.write(GET)
        bare.sendall(outgoing.read())
        incoming.write(bare.recv(65536))
        assert b'["192.0.2.7", 4711], "https"' in client.read()


@pytest.mark.parametrize("data", BAD)
def test_a_trusted_proxy_that_announces_nobody_is_cut_off(plain: Secured, data: bytes) -> None:
    with connect(plain) as client:
        client.sendall(data)
        try:
            assert client.recv(65536) == b""
        except ConnectionResetError:
            pass


def test_tls_without_a_header_is_cut_off(tls: Secured, files: Files) -> None:
    with connect(tls) as bare, pytest.raises((ssl.SSLError, ConnectionError)):
        files.client_context().wrap_socket(bare, server_hostname=NAME)


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 192.0.2.7", SIGNATURE])
def test_the_header_has_a_deadline(plain: Secured, data: bytes) -> None:
    with connect(plain) as client:
        client.sendall(data)
        assert client.recv(65536) == b""


def test_a_balancer_that_hangs_up_is_no_error(
    plain: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    for data in (b"", LINE[:9], LINE):
        with connect(plain) as client:
            client.sendall(data)
    with connect(plain) as client:
        client.sendall(LINE + GET)
        assert answer(client) == [["192.0.2.7", 4711], "http"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_others_speak_for_themselves(files: Files) -> None:
    trusted = ("192.0.2.0/24", "2001:db8::/32", "unix")
    with secured(APP, None, proxyprotocol=trusted) as running:
        with connect(running) as client:
            client.sendall(GET)
            assert answer(client) == [list(client.getsockname()), "http"]
        with connect(running) as client:
            client.sendall(LINE + GET)
            assert client.recv(65536).startswith(b"HTTP/1.1 400")
    with secured(APP, files.settings(), proxyprotocol=trusted) as running:
        with running.client(files.client_context()) as secure:
            assert secure.ask(GET).status == 200


def test_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with secured(APP, None, addr=path, proxyprotocol=("unix",)):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(LINE + GET)
            assert answer(client) == [["192.0.2.7", 4711], "http"]


def test_a_server_stops_though_headers_are_awaited() -> None:
    with secured(APP, None, proxyprotocol=("127.0.0.1",), header_timeout=60.0) as running:
        waiting = connect(running)
        with connect(running) as client:
            client.sendall(LINE + GET)
            assert answer(client)
    with waiting:
        assert waiting.recv(1) == b""
