"""Large answers are encrypted in steps: a connection keeps the largest buffer it ever needed."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import pytest
from starlette.types import Receive, Scope, Send

from registry.responses import ByteRange, ContentResponse
from registry.server.context import WorkerContext
from registry.server.lifecycle import Lifecycle
from registry.server.outlet import Outlet
from registry.threads import Threads
from storage.driver import ObjectInfo
from tests.registry.server.harness import routed, settings
from tests.registry.server.tls_harness import Files, secured

STEP = 256 * 1024
MEGABYTE = 1024 * 1024


class Transport:
    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self.writes: list[bytes] = []
        self.vectors: list[list[bytes]] = []

    def get_extra_info(self, name: str) -> object:
        assert name == "ssl_object"
        return object() if self._secure else None

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def writelines(self, pieces: list[bytes]) -> None:
        self.vectors.append(pieces)


def outlet(transport: Any) -> Outlet:
    loop = asyncio.new_event_loop()
    try:
        return Outlet(WorkerContext(settings(), Lifecycle(0)), loop, transport)
    finally:
        loop.close()


@pytest.mark.parametrize(
    "pieces",
    [
        (b"head", b"\1" * MEGABYTE),
        (b"\2" * MEGABYTE,),
        (b"5\r\n", b"\3" * (STEP + 1), b"\r\n"),
        (b"head", b"", b"\4" * STEP),
    ],
)
def test_steps(pieces: tuple[bytes, ...]) -> None:
    transport = Transport(secure=True)
    outlet(transport).write(*pieces)
    assert b"".join(transport.writes) == b"".join(pieces)
    assert max(map(len, transport.writes)) <= STEP
    assert len(transport.writes) <= sum(map(len, pieces)) / STEP + len(pieces)
    assert transport.vectors == []


def test_small_pieces_are_one_record() -> None:
    transport = Transport(secure=True)
    outlet(transport).write(b"head", b"body")
    assert transport.writes == [b"headbody"]


def test_without_tls_nothing_is_cut() -> None:
    transport = Transport(secure=False)
    outlet(transport).write(b"head", bytes(MEGABYTE))
    assert transport.vectors == [[b"head", bytes(MEGABYTE)]]


class Stored:
    """A `storage.driver.Reader` of so many bytes; it notes what is asked of it."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.info = ObjectInfo("a blob", size, 0.0)
        self.reads: list[int] = []
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append(length)
        return os.pread(self._file.fileno(), length, offset)

    def close(self) -> None:
        return


def test_a_pull_over_tls_moves_a_mebibyte_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: a hop to a thread, and a message to the server, for each MiB and no more."""
    content = os.urandom(MEGABYTE) * 8 + b"the end"
    written: list[int] = []
    write = Outlet.write

    def noted(outlet: Outlet, *pieces: bytes) -> None:
        written.append(sum(map(len, pieces)))
        write(outlet, *pieces)

    monkeypatch.setattr(Outlet, "write", noted)
    threads = Threads(2, 30)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        stored = Stored(file, len(content))

        async def blob(scope: Scope, receive: Receive, send: Send) -> None:
            headers = {"Content-Length": str(len(content))}
            whole = ByteRange(0, len(content))
            response = ContentResponse(stored, whole, threads, 200, headers)
            await response.begin(scope)
            await response(scope, receive, send)

        files = Files(tmp_path)
        with secured(routed({"/blob": blob}), files.settings()) as server:
            with server.client(files.client_context()) as client:
                answer = client.ask(b"GET /blob HTTP/1.1\r\nHost: a\r\n\r\n")
    threads.close()
    assert answer.body == content
    assert stored.reads == [MEGABYTE] * 8 + [len(b"the end")]
    assert [size >= MEGABYTE for size in written] == [True] * 8 + [False]
