"""The system calls that a server makes for a request, counted by strace: the same on any machine.

What wakes an event loop and what hands the interpreter from thread to thread depends on who runs when,
so these calls are left out. All else is work that requests ask for.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import tree
from tests.support.engines import program
from tests.support.servers import Server, holdfast

_LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>).*\) += (-?\d+)", re.MULTILINE)
_CHANCE = frozenset(
    (
        *(
            "epoll_wait",
            "epoll_pwait",
            "epoll_ctl",
            "io_uring_enter",
            "restart_syscall",
            "clock_nanosleep",
        ),
        *("futex", "sched_yield", "clone3", "set_robust_list", "rseq", "gettid", "prctl"),
        *("mmap", "munmap", "madvise", "brk", "mprotect", "rt_sigprocmask", "getpid"),
    )
)
"""Calls whose number depends on the moment: waiting, memory, and threads that begin."""
_QUIET = 0.3
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Calls:
    """What one stretch of work took, in the one worker of a server."""

    on_loop: Counter[str]
    """Calls of the worker's first thread, which is its event loop, by name."""
    in_threads: Counter[str]
    """Calls of its other threads."""
    moved: Counter[str]
    """Bytes that calls of a name said to have moved, in any thread."""

    @property
    def total(self) -> int:
        return self.on_loop.total() + self.in_threads.total()

    def count(self, *names: str) -> int:
        return sum(self.on_loop[name] + self.in_threads[name] for name in names)

    def bytes(self, *names: str) -> int:
        return sum(self.moved[name] for name in names)

    def __str__(self) -> str:
        return f"on the loop: {dict(self.on_loop)}; in threads: {dict(self.in_threads)}"


@dataclass(slots=True)
class Counting:
    """A server under strace."""

    server: Server
    trace: Path
    worker: int
    _read: int = 0

    def begin(self) -> None:
        """Count from here on, once the server has come to rest."""
        self._read = self._settled()

    def end(self) -> Calls:
        """What was called since, once the server has come to rest."""
        until = self._settled()
        with self.trace.open(errors="replace") as file:
            file.seek(self._read)
            return parse(file.read(until - self._read), self.worker)

    def _settled(self) -> int:
        """The trace's length when nothing but waiting has been written to it for a moment."""
        deadline = time.monotonic() + _PATIENCE
        size = self.trace.stat().st_size
        while time.monotonic() < deadline:
            time.sleep(_QUIET)
            with self.trace.open(errors="replace") as file:
                file.seek(size)
                new = file.read()
            if not parse(new, self.worker).total:
                return size + len(new.encode())
            size += len(new.encode())
        raise AssertionError(f"the server was still busy after {_PATIENCE} s")


def parse(text: str, worker: int) -> Calls:
    """Count the calls of a trace that have ended, but those of chance."""
    on_loop, in_threads, moved = Counter[str](), Counter[str](), Counter[str]()
    for thread, name, result in _LINE.findall(text):
        if name in _CHANCE:
            continue
        (on_loop if int(thread) == worker else in_threads)[name] += 1
        moved[name] += max(0, int(result))
    return Calls(on_loop, in_threads, moved)


@contextlib.contextmanager
def counting(directory: Path, environ: Mapping[str, str] | None = None) -> Iterator[Counting]:
    """Holdfast with one worker under strace, over `directory`/tree; `environ` is for `slowed`."""
    trace = directory / "trace"
    under = (program("strace"), "-D", "-f", "-qq", "-s", "0", "-o", str(trace))
    starting = holdfast(
        directory,
        workers=1,
        # Its probes of the storage would be counted, as many as there is time for.
        config={"log": {"level": "warn"}, "health": {"storagedriver": {"enabled": False}}},
        environ=environ,
        module="tests.bench.slowed",
        under=under,
    )
    with starting as server:
        _, worker = tree(server.process.pid)
        yield Counting(server, trace, worker)
