"""What the connections of one worker share: settings, the clock that ends the slow ones, file threads.

A timer per request would cost more than the request's own bookkeeping. Instead each connection holds two
deadlines that are mere numbers, and one timer per worker looks at them all.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Final, Protocol

from .blocks import Blocks
from .lifecycle import Lifecycle
from .response_head import spelled
from .settings import ServerSettings

NEVER: Final = math.inf
FILE_THREADS: Final = 8
RECEIVED: Final = 256 * 1024


class Timed(Protocol):
    """A connection, as the clock sees it."""

    read_deadline: float

    @property
    def out(self) -> TimedOutlet: ...

    def read_expired(self) -> None: ...


class TimedOutlet(Protocol):
    deadline: float

    def expired(self) -> None: ...


class WorkerContext:
    def __init__(self, settings: ServerSettings, lifecycle: Lifecycle) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.connections: set[Timed] = set()
        self._ticking = False
        shortest = min(
            settings.header_timeout,
            settings.body_timeout,
            settings.write_timeout,
            settings.keepalive_timeout,
        )
        self._interval = min(1.0, shortest / 4)
        self._common_of: list[tuple[bytes, bytes]] | None = None
        self._common = b""
        self.received = memoryview(bytearray(RECEIVED))
        """What connections receive into, each for as long as its turn lasts."""
        self.blocks = Blocks()

    @cached_property
    def file_threads(self) -> ThreadPoolExecutor:
        """For reading files that are not in memory. Idle threads end with the process."""
        return ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="sendfile")

    def opened(self, connection: Timed, loop: asyncio.AbstractEventLoop) -> None:
        self.connections.add(connection)
        if not self._ticking:
            self._ticking = True
            loop.call_later(self._interval, self._tick, loop)

    def closed(self, connection: Timed) -> None:
        self.connections.discard(connection)

    def common(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The lines of the headers every response has; the server makes a new list every second."""
        if headers is not self._common_of:
            self._common = b"".join(
                b"%b: %b\r\n" % (spelled(name), value) for name, value in headers
            )
            self._common_of = headers
        return self._common

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in tuple(self.connections):
            if connection.read_deadline <= now:
                connection.read_expired()
            if connection.out.deadline <= now:
                connection.out.expired()
        self._ticking = bool(self.connections)
        if self._ticking:
            loop.call_later(self._interval, self._tick, loop)
