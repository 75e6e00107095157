"""One worker: uvicorn's server around our protocol, and the order in which it stops.

SIGTERM: `lifecycle.draining` turns true, and for `draindelay` seconds nothing else changes, so that
whoever watches readiness can look away. Then no connection is accepted, idle ones are closed, and
requests in flight have `draintimeout` seconds before they are cancelled. SIGINT skips the delay. Both may
come any number of times: service managers and terminals signal whole process groups. SIGHUP reads the
certificate again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp

from .context import WorkerContext
from .doorway import Doorway
from .last_call import last_call
from .lifecycle import Lifecycle
from .protocol import Connection
from .proxy_header import Announced
from .renewal import RenewableContext, Renewal
from .settings import ServerSettings

logger = logging.getLogger("holdfast.server")

START_FAILED = 3

_TICK: Final = 1.0
"""Seconds between looks at the clock: the Date of responses is by it."""

MakeApp = Callable[[Lifecycle], ASGIApp]


class WorkerServer(uvicorn.Server):
    """`life` is a descriptor that reads end-of-file when the parent dies; `ready` is called once."""

    def __init__(
        self,
        config: uvicorn.Config,
        settings: ServerSettings,
        lifecycle: Lifecycle,
        tls: RenewableContext | None,
        *,
        ready: Callable[[], None],
        life: int | None,
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._lifecycle = lifecycle
        self._tls = tls
        self._ready = ready
        self._life = life
        self._stop_at = math.inf
        self._wake: Callable[[], object] = lambda: None
        self.renewal: Renewal | None = None
        self._doorways: list[Doorway] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        trusted = self._settings.proxyprotocol
        doorways = trusted is not None or self._tls is not None
        await super().startup([] if doorways else sockets)
        for listener in sockets if doorways and sockets else ():
            doorway = self._doorway(listener, trusted or ())
            self._doorways.append(doorway)
            self.servers.append(cast(Any, doorway))
        self._watch_certificate()
        if self._life is not None:
            asyncio.get_running_loop().add_reader(self._life, self._orphaned)
        gc.collect()
        gc.freeze()  # what has been made up to here stays, and need not be looked through again
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await last_call(sockets or ())
        for doorway in self._doorways:
            doorway.close()
            await doorway.settled()
        await super().shutdown(sockets)
        if self.renewal is not None:
            self.renewal.stop()

    def _doorway(self, listener: socket.socket, trusted: tuple[str, ...]) -> Doorway:
        def connect(client: Announced | None) -> Connection:
            protocol: Connection = cast(Any, self.config.http_protocol_class)(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            protocol.announced = client
            return protocol

        patience = self._settings.header_timeout
        return Doorway(listener, trusted, self._tls, connect, patience)

    def _watch_certificate(self) -> None:
        tls = self._tls
        if tls is None or self._settings.tls is None:
            return

        def changed(problem: str | None) -> None:
            self._lifecycle.tls_problem = problem
            self._lifecycle.tls_expiry = tls.expiry

        changed(tls.problem)
        self.renewal = Renewal(tls, self._settings.tls, changed)
        self.renewal.start()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.renewal.now)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.drain(at_once=sig != signal.SIGTERM)

    def drain(self, *, at_once: bool) -> None:
        """Begin to stop; the later, more patient wish does not undo the earlier."""
        self._lifecycle.draining = True
        delay = 0.0 if at_once else self._settings.draindelay
        self._stop_at = min(self._stop_at, time.monotonic() + delay)
        self._wake()

    async def main_loop(self) -> None:
        """As uvicorn's, which looks ten times a second: this sleeps until there is something to do."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(changed.set)  # also for signal handlers
        while not await self.on_tick(0):
            changed.clear()
            left = max(0.0, min(_TICK, self._stop_at - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), left)
        self._wake = lambda: None

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def _orphaned(self) -> None:
        if self._life is not None:
            asyncio.get_running_loop().remove_reader(self._life)
        logger.error("the parent process is gone; worker %d stops", self._lifecycle.worker)
        self.drain(at_once=True)


def make_server(
    settings: ServerSettings,
    lifecycle: Lifecycle,
    app: ASGIApp,
    tls: RenewableContext | None,
    *,
    ready: Callable[[], None] = lambda: None,
    life: int | None = None,
) -> WorkerServer:
    connection = functools.partial(Connection, WorkerContext(settings, lifecycle))
    config = uvicorn.Config(
        cast(Any, app),
        loop="uvloop",
        http=cast(type[asyncio.Protocol], connection),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=math.ceil(settings.draintimeout),
        ssl_context_factory=None if tls is None else lambda *_: tls,
        headers=_headers(settings),
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # the rest is said here
    return WorkerServer(config, settings, lifecycle, tls, ready=ready, life=life)


def _headers(settings: ServerSettings) -> list[tuple[str, str]]:
    """What every response says. HSTS (RFC 6797) is for TLS only, and this listener has nothing else."""
    if settings.tls is None or not settings.tls.hsts:
        return []
    return [("Strict-Transport-Security", f"max-age={settings.tls.hsts:.0f}")]


def run_worker(
    settings: ServerSettings,
    listener: socket.socket,
    make_app: MakeApp,
    tls: RenewableContext | None,
    *,
    worker: int,
    ready: Callable[[], None],
    life: int | None,
) -> int:
    """Serve until told to stop. The exit code: 0, or START_FAILED if it never came to serving."""
    lifecycle = Lifecycle(worker)
    server = make_server(settings, lifecycle, make_app(lifecycle), tls, ready=ready, life=life)
    try:
        server.run([listener])
    except SystemExit:  # how uvicorn says that the application did not start; it has logged why
        return START_FAILED
    logger.info("worker %d (pid %d) has stopped", worker, os.getpid())
    return 0 if server.started else START_FAILED
