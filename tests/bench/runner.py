"""Run rows: ours and the peer by turns, in pairs, until there are enough or the time is up.

A row fails as a whole when either side does not start, breaks off, takes too long or gives a wrong
answer: half a comparison is no figure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench.contenders import Contender
from tests.bench.measure import Figure, Meter, Row, Sample, Scale, Stage, Target
from tests.bench.wire import Unverified


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Result:
    """A row's samples in pairs (ours, the peer's), or the reason why there are none."""

    row: Row[Any]
    pairs: tuple[tuple[Sample, Sample], ...]
    failure: str | None
    load: float
    """The machine's load average when the row began: what else was running."""
    floors: tuple[Sample, ...] = ()
    """Of the row's floor, one with each pair; none where it has no floor, or that failed."""
    floor_failure: str | None = None

    def values(self, figure: Figure) -> tuple[Spread, Spread]:
        ours, peers = zip(*self.pairs, strict=True)
        return (
            Spread.of([sample.value(figure) for sample in ours]),
            Spread.of([sample.value(figure) for sample in peers]),
        )

    def ratio(self, figure: Figure) -> Spread | None:
        """Ours to the peer's, within each pair; None where the peer's is nothing."""
        pairs = [(ours.value(figure), peer.value(figure)) for ours, peer in self.pairs]
        if not all(peer for _, peer in pairs):
            return None
        return Spread.of([ours / peer for ours, peer in pairs])

    def floor(self, figure: Figure) -> Spread | None:
        if not self.floors:
            return None
        return Spread.of([sample.value(figure) for sample in self.floors])

    def above_floor(self, figure: Figure) -> float | None:
        """The median of ours to the floor's, within each round."""
        if not self.floors:
            return None
        rounds = zip(self.pairs, self.floors, strict=True)
        return statistics.median(
            ours.value(figure) / floor.value(figure) for (ours, _), floor in rounds
        )

    def figures(self) -> tuple[tuple[Figure, Target | None], ...]:
        """What is shown of the row, its own figure first."""
        return ((self.row.figure, self.row.target), *self.row.further)

    def met(self) -> bool | None:
        """Whether all targets are met; None where the row has none, or no figures."""
        if self.failure is not None:
            return None
        judged = [self.meets(figure, target) for figure, target in self.figures() if target]
        return all(judged) if judged else None

    def meets(self, figure: Figure, target: Target) -> bool:
        """Whether everything is kept that was promised. A floor that failed keeps no promise."""
        kept = []
        if target.ratio is not None:
            ratio = self.ratio(figure)
            kept.append(ratio is not None and ratio.median <= target.ratio)
        if target.figure is not None:
            kept.append(self.values(figure)[0].median <= target.figure)
        if target.floor is not None:
            above = self.above_floor(figure)
            kept.append(above is not None and above <= target.floor)
        return all(kept)


def run_row(
    row: Row[Any],
    ours: Contender,
    peer: Contender,
    *,
    scale: Scale,
    rounds: int,
    seconds: float,
    directory: Path,
) -> Result:
    """Measure one row. After `seconds` no further pair begins, but there is always one.

    Never raises: whatever goes wrong is the row's failure. A floor that fails takes only itself along.
    """
    load = os.getloadavg()[0]
    pairs: list[tuple[Sample, Sample]] = []
    failure: str | None = None
    deadline = time.monotonic() + seconds
    floor = _FloorSide(row, Stage(ours, directory / "floor", scale))
    try:
        with contextlib.ExitStack() as stack:
            states = []
            for contender in (ours, peer):
                with _blamed_on(contender.name, row.limit):
                    stage = Stage(contender, directory / contender.name, scale)
                    states.append(stack.enter_context(row.setup(stage)))
            stack.enter_context(floor)
            for _ in range(min(rounds, row.most_rounds or rounds)):
                if pairs and time.monotonic() > deadline:
                    break
                samples = []
                for contender, state in zip((ours, peer), states, strict=True):
                    with _blamed_on(contender.name, row.limit):
                        samples.append(_sample(row.run, row.verify, state))
                pairs.append((samples[0], samples[1]))
                floor.sample()
    except _Failed as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other rows can go on
        failure = f"when the row was taken down: {_reason(error)}"
    floors = () if failure else tuple(floor.samples)
    return Result(row, () if failure else tuple(pairs), failure, load, floors, floor.failure)


def too_late(row: Row[Any], minutes: float) -> Result:
    """Of a row that was not begun because the whole run's time was over."""
    reason = (
        f"not begun: the {minutes:g} minutes of the run were over. Give it more (--minutes), or run "
        f"it by itself (--rows {row.name})."
    )
    return Result(row, (), reason, os.getloadavg()[0])


class _Failed(Exception):
    pass


class _FloorSide:
    """The third side of a row, if it has one."""

    def __init__(self, row: Row[Any], stage: Stage) -> None:
        self._floor = row.floor
        self._limit = row.limit
        self._stage = stage
        self._stack = contextlib.ExitStack()
        self._state: object = None
        self.samples: list[Sample] = []
        self.failure: str | None = None

    def __enter__(self) -> None:
        if (floor := self._floor) is not None:
            with self._noted(floor.name):
                self._state = self._stack.enter_context(floor.setup(self._stage))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sample(self) -> None:
        if (floor := self._floor) is not None and self.failure is None:
            with self._noted(floor.name):
                self.samples.append(_sample(floor.run, floor.verify, self._state))

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        try:
            with _blamed_on(name, self._limit):
                yield
        except _Failed as error:
            self.failure = str(error)
            self.samples.clear()


@contextlib.contextmanager
def _blamed_on(name: str, limit: int) -> Iterator[None]:
    """Bound the time of the block, and name the side that failed in it."""
    try:
        with _time_limit(limit):
            yield
    except Exception as error:  # an answer may be wrong in ways that nobody has thought of
        raise _Failed(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What these errors say stands for itself; others are told by their kind."""
    said = isinstance(error, Unverified | AssertionError | OSError) and str(error)
    return said or f"{type(error).__name__}: {error}".rstrip(": ")


@contextlib.contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"One sample took more than {seconds} s.")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _sample(
    run: Callable[[Any, Meter], None], verify: Callable[[Any], None], state: object
) -> Sample:
    meter = Meter()
    run(state, meter)
    verify(state)
    if meter.sample is None:
        raise Unverified("Nothing was measured.")
    return meter.sample
