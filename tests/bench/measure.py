"""What a row is, and what one sample of it holds.

A row has three parts. `setup` makes a server ready and is not measured. `run` does one sample; the
part inside `meter.measure()` is what counts. `verify` then proves that what was measured really
happened, and raises Unverified otherwise. Only a sample that passed becomes a figure.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from tests.bench.contenders import Contender
from tests.bench.content import MIB
from tests.bench.processes import Peak, cpu_seconds, peak, reset_peaks
from tests.support.servers import Server

S = TypeVar("S")

_SETTLE = 0.05
"""Seconds after the last answer in which what a server put off still counts as its CPU time."""


class Figure(enum.Enum):
    """What a row is judged by, most often one of them. The others are kept."""

    CPU = "CPU"
    WALL = "wall"
    MEMORY = "peak RSS"
    REQUESTS = "requests to the store"
    """Only of rows that count them, as the note `requests`."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a run moves."""

    bulk: int = 1024 * MIB
    """Bytes of the blob of the pull and push rows."""
    pulls: int = 4
    """Pulls to a sample: one takes too little CPU time to be told from the scheduler's moods."""
    requests: int = 4000
    layers: int = 200
    transfers: int = 100
    """Uploads, and as many downloads, that are in progress at once in the memory row."""
    transfer_size: int = 200_000_000
    transfer_share: int = 32 * MIB
    """What each of those moves while all are in progress."""
    images: int = 500
    """Images of eight layers that are pushed to a bucket, or pulled from it."""
    collected: float = 1.0
    """What part of the files that a row of the collector names there are."""


QUICK = Scale(
    bulk=128 * MIB,
    requests=800,
    layers=40,
    pulls=2,
    transfers=20,
    transfer_size=50_000_000,
    transfer_share=16 * MIB,
    images=20,
    collected=0.02,
)


@dataclass(frozen=True, slots=True)
class Target:
    """What the project promises: at most this ratio to the peer, or at most this figure."""

    ratio: float | None = None
    figure: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """`amount` counts the row's unit: GB, thousands of requests, or whatever it is per."""

    cpu: float
    wall: float
    amount: float
    memory: Peak
    extra: dict[str, float] = field(default_factory=dict)

    def value(self, figure: Figure) -> float:
        """Seconds or requests for each unit; of MEMORY, MB (10^6 bytes) of the largest process."""
        match figure:
            case Figure.CPU:
                return self.cpu / self.amount
            case Figure.WALL:
                return self.wall / self.amount
            case Figure.MEMORY:
                return self.memory.largest / 1e6
            case Figure.REQUESTS:
                return self.extra["requests"] / self.amount


class Meter:
    """Takes one sample."""

    def __init__(self) -> None:
        self.sample: Sample | None = None
        self._notes: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, server: Server, amount: float) -> Iterator[None]:
        root = server.process.pid
        reset_peaks(root)
        before = cpu_seconds(root)
        began = time.perf_counter()
        yield
        wall = time.perf_counter() - began
        time.sleep(_SETTLE)
        self.record(cpu_seconds(root) - before, wall, amount, peak(root))

    def record(self, cpu: float, wall: float, amount: float, memory: Peak) -> None:
        self.sample = Sample(cpu, wall, amount, memory, self._notes)

    def note(self, **figures: float) -> None:
        """Keep further figures of this sample, for the JSON."""
        self._notes.update(figures)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a row is set up: for whom, in which empty directory, and how big."""

    contender: Contender
    directory: Path
    scale: Scale


@dataclass(frozen=True, slots=True)
class Row(Generic[S]):
    name: str
    title: str
    figure: Figure
    unit: str
    setup: Callable[[Stage], AbstractContextManager[S]]
    run: Callable[[S, Meter], None]
    verify: Callable[[S], None]
    target: Target | None = None
    most_rounds: int | None = None
    """For rows that take long and vary little."""
    further: tuple[tuple[Figure, Target | None], ...] = ()
    """Figures that get lines of their own beside the row's, and what is promised of them."""
    limit: int = 300
    """Seconds that one sample, with its preparation and proof, may take."""
