"""Large answers are encrypted in steps: a connection keeps the largest buffer it ever needed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from registry.server.context import WorkerContext
from registry.server.lifecycle import Lifecycle
from registry.server.outlet import Outlet
from tests.registry.server.harness import settings

STEP = 64 * 1024
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
