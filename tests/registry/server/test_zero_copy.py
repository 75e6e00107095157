"""Files that reach the client without passing through Python, from memory and from disk."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import queue
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from starlette.types import Receive, Scope, Send

from registry.server import sending
from tests.registry.server.harness import Client, Running, got, message, routed, running

MIB = 1024 * 1024
SIZE = 24 * MIB + 12345
DATA = random.Random(1).randbytes(SIZE)
seen: queue.Queue[Any] = queue.Queue()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "blob"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[Running]:
    async def serve(scope: Scope, _receive: Receive, send: Send) -> None:
        """Query: offset, count, announced length (or nothing: chunked)."""
        offset, count, length = scope["query_string"].decode().split(",")
        headers = [(b"content-length", length.encode())] if length else []
        with path.open("rb") as file:
            await send(message("start", status=200, headers=headers))
            try:
                await send(
                    message(
                        "zerocopysend", file=file.fileno(), offset=int(offset), count=int(count)
                    )
                )
            except OSError as error:
                seen.put(error)
                raise

    async def pieces(_scope: Scope, _receive: Receive, send: Send) -> None:
        with path.open("rb") as file:
            await send(message("start", status=200))
            await send(message("body", body=b"<" * 300_000, more_body=True))
            for offset in (0, MIB, 5):
                part: dict[str, Any] = {"file": file.fileno(), "offset": offset, "count": 2 * MIB}
                await send(message("zerocopysend", more_body=True, **part))
                await send(message("body", body=b"|", more_body=True))
            await send(message("zerocopysend", file=file.fileno(), offset=9, count=0))

    async def defaults(_scope: Scope, _receive: Receive, send: Send) -> None:
        with path.open("rb", buffering=0) as file:
            file.seek(1000)
            await send(message("start", status=200))
            await send(message("zerocopysend", file=file.fileno()))

    async def no_content(_scope: Scope, _receive: Receive, send: Send) -> None:
        with path.open("rb") as file:
            await send(message("start", status=304))
            await send(message("zerocopysend", file=file.fileno(), offset=0, count=SIZE))

    handlers = {"/": serve, "/pieces": pieces, "/defaults": defaults, "/304": no_content}
    with running(routed(handlers)) as worker:
        yield worker


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture(params=["resident", "cold", "unknown"])
def memory(request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the file is in the page cache, and whether the kernel can tell."""
    if request.param == "resident":
        path.read_bytes()
    elif request.param == "cold":
        evict(path)
    else:

        def unsupported(*_: object) -> int:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "preadv", unsupported)
    return str(request.param)


def evict(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def request(offset: int, count: int, length: object = "", method: str = "GET") -> bytes:
    return f"{method} /?{offset},{count},{length} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


RANGES = [
    (0, SIZE),
    (0, 1),
    (SIZE - 1, 1),
    (5, 65536),
    (5, 65537),
    (1, MIB),
    (MIB - 1, MIB + 2),
    (12345, 10 * MIB + 1),
    (7, 0),
    (SIZE, 0),
]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_every_range_arrives_whole(client: Client, memory: str, path: Path, framing: str) -> None:
    for offset, count in RANGES:
        if memory == "cold":
            evict(path)
        length = count if framing == "length" else ""
        answer = client.ask(request(offset, count, length))
        assert digest(answer.body) == digest(DATA[offset : offset + count])


def test_a_known_last_piece_gives_the_length(client: Client) -> None:
    assert client.ask(request(0, MIB)).headers["content-length"] == str(MIB)


def test_bytes_and_files_in_one_response(client: Client, memory: str) -> None:
    answer = client.ask(b"GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.headers["transfer-encoding"] == "chunked"
    parts = b"|".join(DATA[offset : offset + 2 * MIB] for offset in (0, MIB, 5)) + b"|"
    assert digest(answer.body) == digest(b"<" * 300_000 + parts)
    old = client.ask(b"GET /pieces HTTP/1.0\r\n\r\n")
    assert digest(old.body) == digest(answer.body)


def test_offset_and_count_may_be_left_out(client: Client) -> None:
    answer = client.ask(b"GET /defaults HTTP/1.1\r\nHost: a\r\n\r\n")
    assert digest(answer.body) == digest(DATA[1000:])


def test_responses_without_a_body_have_none(client: Client) -> None:
    answer = client.ask(request(0, SIZE, SIZE, "HEAD"), "HEAD")
    assert answer.headers["content-length"] == str(SIZE)
    assert client.ask(b"GET /304 HTTP/1.1\r\nHost: a\r\n\r\n").status == 304
    assert client.ask(request(0, 3, 3)).body == DATA[:3]


def test_pipelined_files_stay_in_order(client: Client) -> None:
    wanted = [(number * MIB, 3 * MIB) for number in range(6)]
    client.say(b"".join(request(offset, count, count) for offset, count in wanted))
    for offset, count in wanted:
        assert digest(client.answer().body) == digest(DATA[offset : offset + count])


def test_many_at_once(server: Running, memory: str) -> None:
    results: queue.Queue[str] = queue.Queue()

    def pull(number: int) -> None:
        with server.client() as client:
            results.put(digest(client.ask(request(number, 6 * MIB, 6 * MIB)).body))

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    wanted = {digest(DATA[number : number + 6 * MIB]) for number in range(16)}
    assert {results.get_nowait() for _ in threads} == wanted


def test_a_file_shorter_than_announced_is_no_clean_end(client: Client, memory: str) -> None:
    for length in (100_000, ""):
        with Client(client.socket.getpeername()[1]) as other:
            other.say(request(SIZE - 50_000, 100_000, length))
            with pytest.raises(ConnectionResetError):
                while other.socket.recv(65536):
                    pass


def test_a_client_that_leaves_stops_the_sending(server: Running, memory: str) -> None:
    with server.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.say(request(0, SIZE, SIZE))
        assert client.file.read(100_000)
    assert isinstance(got(seen), ConnectionResetError)
    with server.client() as client:
        assert client.ask(request(0, 3, 3)).body == DATA[:3]


def test_no_descriptor_is_left_open(server: Running, memory: str) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with server.client() as client:
        client.ask(request(0, MIB, MIB))
    before = descriptors()
    for _ in range(20):
        with server.client() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.say(request(0, SIZE, SIZE))
            assert client.file.read(1000)
        got(seen)
    with server.client() as client:
        client.ask(request(0, 0, 0))
    assert descriptors() <= before + 2


def test_a_disk_that_hangs_does_not_stop_the_others(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window that is not in memory is sent by a thread; meanwhile the loop serves."""
    hang, hanging = threading.Event(), threading.Event()
    send_now = sending._sendfile

    def slow(out: int, file: int, offset: int, count: int) -> int:
        assert threading.current_thread().name.startswith("sendfile")
        hanging.set()
        assert hang.wait(10)
        return send_now(out, file, offset, count)

    monkeypatch.setattr(sending, "resident", lambda *_: False)
    monkeypatch.setattr(sending, "_sendfile", slow)
    with server.client() as waiting, server.client() as other:
        waiting.say(request(0, 2 * MIB, 2 * MIB))
        assert hanging.wait(10)
        assert other.ask(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        hang.set()
        assert digest(waiting.answer().body) == digest(DATA[: 2 * MIB])


def test_a_client_that_leaves_while_the_disk_hangs(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, hanging = threading.Event(), threading.Event()

    def slow(out: int, file: int, offset: int, count: int) -> int:
        hanging.set()
        assert hang.wait(10)
        os.fstat(out)
        os.fstat(file)
        return os.sendfile(out, file, offset, count)

    monkeypatch.setattr(sending, "resident", lambda *_: False)
    monkeypatch.setattr(sending, "_sendfile", slow)
    with server.client() as client:
        client.say(request(0, 2 * MIB, 2 * MIB))
        assert hanging.wait(10)
    hang.set()
    assert isinstance(got(seen), ConnectionResetError)


def test_residency_is_told_by_the_kernel(path: Path) -> None:
    path.read_bytes()
    with path.open("rb") as file:
        assert sending.resident(file.fileno(), 0, SIZE)
        assert sending.read_small(file.fileno(), 3, 100) == DATA[3:103]
        assert sending.read_small(file.fileno(), SIZE - 3, 100) is None
        assert sending.read_small(file.fileno(), 0, MIB) is None


@pytest.fixture
def forgotten(tmp_path: Path) -> Callable[[], AbstractContextManager[BinaryIO]]:
    """A file that is not in memory, each time another: whoever asks for a page may have it read ahead."""
    names = itertools.count()

    @contextlib.contextmanager
    def give() -> Iterator[BinaryIO]:
        path = tmp_path / str(next(names))
        path.write_bytes(DATA)
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            yield file

    with give() as file, contextlib.suppress(OSError):
        os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        pytest.skip("this filesystem does not forget")
    return give


def test_absence_is_told_by_the_kernel(
    forgotten: Callable[[], AbstractContextManager[BinaryIO]],
) -> None:
    with forgotten() as file:
        assert not sending.resident(file.fileno(), 0, SIZE)
    with forgotten() as file:
        assert sending.read_small(file.fileno(), 3, 100) is None
