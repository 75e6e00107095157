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
from typing import Any, Generic, TypeVar

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
    P99 = "p99"
    """Only of rows that time each client, as the note `p99_ms`."""
    GROWTH = "RSS"
    """What the tree grew by: only of rows that take it, as the note `growth_kb`."""
    SLOWDOWN = "undisturbed to disturbed throughput"
    """Only of rows that disturb a server, as the note `slowdown`."""


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
    chunk: int = 16 * MIB
    """Bytes of each PATCH, where a blob is pushed in several."""
    listed: int = 10_000
    """Tags of a repository, and repositories of a registry, that are listed."""
    lists: int = 10
    """How often the list of tags is asked for."""
    clients: int = 100
    """That pull one image at the same time."""
    waves: int = 4
    """How often they do, in one sample."""
    idle: int = 1000
    """Connections on which nothing happens."""
    images_scaled: int = 100
    """Images in the smallest of the trees that differ in size."""
    images_scaled_s3: int = 10


QUICK = Scale(
    bulk=32 * MIB,
    requests=400,
    layers=40,
    pulls=2,
    transfers=20,
    transfer_size=50_000_000,
    transfer_share=16 * MIB,
    images=20,
    collected=0.02,
    chunk=8 * MIB,
    listed=500,
    lists=2,
    clients=20,
    waves=1,
    idle=100,
    images_scaled=3,
    images_scaled_s3=1,
)


@dataclass(frozen=True, slots=True)
class Target:
    """What the project promises: at most this ratio to the peer, this figure, this ratio to the floor.

    What is None is not promised.
    """

    ratio: float | None = None
    figure: float | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """`amount` counts the row's unit: GB, thousands of requests, or whatever it is per."""

    cpu: float
    wall: float
    amount: float
    memory: Peak
    extra: dict[str, float] = field(default_factory=dict)

    def plus(self, other: Sample) -> Sample:
        return Sample(
            self.cpu + other.cpu,
            self.wall + other.wall,
            self.amount + other.amount,
            Peak(
                max(self.memory.largest, other.memory.largest),
                max(self.memory.total, other.memory.total),
            ),
            self.extra | other.extra,
        )

    def value(self, figure: Figure) -> float:
        """For each unit; ms; of MEMORY, MB (10^6 bytes) of the largest process; of SLOWDOWN, a ratio."""
        match figure:
            case Figure.CPU:
                return self.cpu / self.amount
            case Figure.WALL:
                return self.wall / self.amount
            case Figure.MEMORY:
                return self.memory.largest / 1e6
            case Figure.REQUESTS:
                return self.extra["requests"] / self.amount
            case Figure.P99:
                return self.extra["p99_ms"]
            case Figure.GROWTH:
                return self.extra["growth_kb"] / self.amount
            case Figure.SLOWDOWN:
                return self.extra["slowdown"]


def settle() -> None:
    """Let a server do what it put off, so that it counts for what it answered before."""
    time.sleep(_SETTLE)


class Meter:
    """Takes one sample."""

    def __init__(self) -> None:
        self.sample: Sample | None = None
        self._notes: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, server: Server, amount: float) -> Iterator[None]:
        """What a sample measures more than once adds up."""
        root = server.process.pid
        reset_peaks(root)
        before = cpu_seconds(root)
        began = time.perf_counter()
        yield
        wall = time.perf_counter() - began
        settle()
        measured = Sample(cpu_seconds(root) - before, wall, amount, peak(root), self._notes)
        self.sample = measured if self.sample is None else self.sample.plus(measured)

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
class Floor(Generic[S]):
    """What a row would cost without a registry: measured in the same rounds, and no contender."""

    name: str
    setup: Callable[[Stage], AbstractContextManager[S]]
    run: Callable[[S, Meter], None]
    verify: Callable[[S], None]


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
    floor: Floor[Any] | None = None
    limit: int = 300
    """Seconds that one sample, with its preparation and proof, may take."""
