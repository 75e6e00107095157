"""How far a copy is: a bar on a terminal, a line a minute in a log, or nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

from registry_gc.report import amount
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

EVERY: Final = 60.0
"""Seconds between two lines in a log."""


class Progress(Protocol):
    """Thread-safe."""

    def begin(self, what: str, items: int | None = None, size: int = 0) -> None:
        """A new phase, of so many items and bytes; None: nobody knows yet."""

    def item(self) -> None: ...

    def bytes(self, number: int) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Lines:
    """One at the beginning of a phase, and then one a minute."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._what = ""
        self._items: int | None = None
        self._size = self._done = self._done_bytes = 0
        self._due = 0.0

    def begin(self, what: str, items: int | None = None, size: int = 0) -> None:
        with self._lock:
            self._what, self._items, self._size = what, items, size
            self._done = self._done_bytes = 0
            self._due = self._clock() + EVERY
        number = "" if items is None else f", {items}"
        self._write(f"{what}{number}{f', {amount(size)}' if size else ''}.")

    def item(self) -> None:
        self._advance(1, 0)

    def bytes(self, number: int) -> None:
        self._advance(0, number)

    def _advance(self, items: int, number: int) -> None:
        with self._lock:
            self._done += items
            self._done_bytes += number
            if self._clock() < self._due:
                return
            self._due = self._clock() + EVERY
            of = "" if self._items is None else f" of {self._items}"
            size = f", {amount(self._done_bytes)} of {amount(self._size)}" if self._size else ""
            line = f"{self._what}: {self._done}{of}{size}."
        self._write(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is left to say."""


class Bar:
    """A bar of bytes where their number is known, else a count."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._items: int | None = None
        self._done = 0

    def begin(self, what: str, items: int | None = None, size: int = 0) -> None:
        with self._lock:
            if self._task is not None and self._bars.tasks[-1].total is None:
                self._bars.update(self._task, total=1, completed=1)
            self._items, self._done = items, 0
            self._task = self._bars.add_task(what, total=size or None, count="")

    def item(self) -> None:
        with self._lock:
            self._done += 1
            of = "" if self._items is None else f"/{self._items}"
            self._bars.update(self._current, count=f"{self._done}{of}")

    def bytes(self, number: int) -> None:
        self._bars.advance(self._current, number)

    @property
    def _current(self) -> TaskID:
        assert self._task is not None  # noqa: S101 - begin() comes first
        return self._task

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()
