"""The parent process: opens the socket, forks the workers, replaces those that die, passes signals on.

There is always a parent, even for one worker: it outlives a crash, and it ends a worker that will not
stop. It never accepts a connection and has no thread, so it can fork at any time. Its signals are
blocked and waited for, so there is no handler to race with.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .listening import CannotListen, described, listen, unlisten
from .notifying import tell_service_manager
from .renewal import RenewableContext
from .run import MakeApp, run_worker
from .settings import ServerSettings
from .tls import CannotSecure, warnings

logger = logging.getLogger("holdfast.server")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_GRACE: Final = 5.0
"""Beyond the drain, for the application to shut down, before a worker is killed."""
_STABLE: Final = 60.0
_LONGEST_PAUSE: Final = 30.0
_IDLE: Final = 3600.0
_RENEWED: Final = 60.0
"""Seconds between two looks at the certificate that a replaced worker will begin with."""


def serve(
    settings: ServerSettings,
    make_app: MakeApp,
    *,
    before_fork: Callable[[], None] | None = None,
    worker_died: Callable[[int], None] | None = None,
) -> int:
    """Serve until a signal says stop, and return the exit code of the process.

    Call it from the main thread of a process without other threads. `make_app` is called in each worker,
    `before_fork` once in the parent, `worker_died` in the parent with the process id of every worker that
    has ended, whatever the reason. 1, with a sentence on stderr or in the log, if it could not start.
    """
    try:
        tls = None if settings.tls is None else RenewableContext(settings.tls)
        listener = listen(settings.addr)
    except (CannotListen, CannotSecure) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for warning in warnings(settings.tls) if settings.tls is not None else ():
        logger.warning("%s", warning)
    try:
        if before_fork is not None:
            before_fork()
        return _Parent(settings, make_app, listener, tls, worker_died).run()
    finally:
        listener.close()
        unlisten(settings.addr)


@dataclass(slots=True)
class _Worker:
    """A place for a worker: who is there, or when the next one comes."""

    number: int
    pid: int = 0
    started: float = 0.0
    ready: bool = False
    failures: int = 0
    due: float = math.inf


class _Parent:
    def __init__(
        self,
        settings: ServerSettings,
        make_app: MakeApp,
        listener: socket.socket,
        tls: RenewableContext | None,
        worker_died: Callable[[int], None] | None,
    ) -> None:
        self._settings = settings
        self._make_app = make_app
        self._listener = listener
        self._tls = tls
        self._worker_died = worker_died
        self._workers = [_Worker(number) for number in range(settings.workers)]
        self._life = os.pipe()  # its end of file, in the workers, is the death of this process
        self._news = os.pipe()  # a worker writes its process id when it is ready
        os.set_blocking(self._news[0], False)
        self._all_ready = False
        self._stopping = False
        self._kill_at = math.inf
        self._code = 0

    def run(self) -> int:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        former = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would never arrive
        try:
            gc.collect()
            gc.freeze()  # or the collector of each worker copies the parent's pages
            for worker in self._workers:
                self._fork(worker, mask)
            while any(worker.pid or not self._stopping for worker in self._workers):
                received = signal.sigtimedwait(_SIGNALS, self._patience())
                if received is not None:
                    self._signalled(received.si_signo)
                self._hear_news()
                self._reap()
                if self._tls is not None and self._tls.stale():
                    self._tls.renew()  # a new worker begins with it; what is wrong is said by workers
                self._replace(mask)
        finally:
            gc.unfreeze()
            signal.signal(signal.SIGCHLD, former)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for descriptor in (*self._life, *self._news):
                os.close(descriptor)
        logger.info("the server has stopped")
        return self._code

    def _patience(self) -> float:
        if not self._all_ready and not self._stopping:
            return 0.05
        now = time.monotonic()
        longest = _IDLE if self._tls is None else _RENEWED
        soonest = min(self._kill_at, *(worker.due for worker in self._workers), now + longest)
        return max(0.0, soonest - now)

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload()
        elif number in (signal.SIGTERM, signal.SIGINT):
            name = signal.Signals(number).name
            if self._stopping:
                logger.warning("%s again: stopping at once, requests in flight are cut", name)
                self._send(signal.SIGKILL)
            else:
                logger.info("%s: stopping when the requests in flight are done", name)
                self._stop(number)

    def _reload(self) -> None:
        if self._tls is None:
            logger.info(
                "SIGHUP is reserved for reloading certificates, and changes nothing without TLS"
            )
        else:
            logger.info("SIGHUP: reading the certificate again")
            self._send(signal.SIGHUP)

    def _stop(self, number: int) -> None:
        self._stopping = True
        self._listener.close()  # or it would take connections that no worker accepts
        settings = self._settings
        delay = settings.draindelay if number == signal.SIGTERM else 0.0
        self._kill_at = time.monotonic() + delay + settings.draintimeout + _GRACE
        longest = self._kill_at - time.monotonic() + _GRACE
        tell_service_manager(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={longest * 1e6:.0f}")
        for worker in self._workers:
            worker.due = math.inf
        self._send(number)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _hear_news(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while message := os.read(self._news[0], 4):
                (pid,) = struct.unpack("i", message)
                for worker in self._workers:
                    if worker.pid == pid:
                        worker.ready = True
        if not self._all_ready and all(worker.ready for worker in self._workers):
            self._all_ready = True
            logger.info(
                "listening on %s with %d workers",
                described(self._settings.addr),
                len(self._workers),
            )
            tell_service_manager("READY=1")

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    self._ended(worker, os.waitstatus_to_exitcode(status))
        if time.monotonic() >= self._kill_at:
            logger.error("a worker did not stop in time and is killed")
            self._kill_at = math.inf
            self._send(signal.SIGKILL)

    def _ended(self, worker: _Worker, code: int) -> None:
        pid, worker.pid = worker.pid, 0
        if self._worker_died is not None:
            self._worker_died(pid)
        if self._stopping:
            return
        end = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if not worker.ready and not self._all_ready:
            logger.error(
                "worker %d (pid %d) ended with %s before it could serve; the server stops",
                worker.number,
                pid,
                end,
            )
            self._code = 1
            self._stop(signal.SIGINT)
            return
        now = time.monotonic()
        worker.failures = 0 if worker.ready and now - worker.started > _STABLE else worker.failures
        pause = min(2.0 ** (worker.failures - 1), _LONGEST_PAUSE) if worker.failures else 0.0
        worker.failures += 1
        worker.due = now + pause
        logger.error(
            "worker %d (pid %d) ended with %s; another one starts in %.0f s",
            worker.number,
            pid,
            end,
            pause,
        )

    def _replace(self, mask: set[int | signal.Signals]) -> None:
        for worker in self._workers:
            if not worker.pid and worker.due <= time.monotonic():
                self._fork(worker, mask)

    def _fork(self, worker: _Worker, mask: set[int | signal.Signals]) -> None:
        _flush()  # or both would write what is still buffered
        worker.ready = False
        worker.due = math.inf
        worker.started = time.monotonic()
        worker.pid = os.fork()
        if not worker.pid:
            self._be(worker, mask)

    def _be(self, worker: _Worker, mask: set[int | signal.Signals]) -> None:
        """In the child: serve, and never return."""
        code = 1
        try:
            os.close(self._life[1])
            os.close(self._news[0])
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = run_worker(
                self._settings,
                self._listener,
                self._make_app,
                self._tls,
                worker=worker.number,
                ready=lambda: self._tell(os.getpid()),
                life=self._life[0],
            )
        except (
            BaseException
        ):  # a worker must end here, whatever happened, and never in its parent's code
            logger.exception("worker %d failed", worker.number)
        finally:
            try:
                logging.shutdown()
                _flush()
            finally:
                os._exit(code)

    def _tell(self, pid: int) -> None:
        os.write(self._news[1], struct.pack("i", pid))


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
        sys.stdout.flush()
        sys.stderr.flush()
