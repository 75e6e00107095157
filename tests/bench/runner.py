"""Run rows: ours and the peer by turns, in pairs, until there are enough or the time is up.

A row fails as a whole when either side does not start, breaks off, takes too long or gives a wrong
answer: half a comparison is no figure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench.contenders import Contender
from tests.bench.measure import Figure, Meter, Row, Sample, Scale, Stage, Target
from tests.bench.wire import Unverified

_FAILURES = (Unverified, OSError, AssertionError, subprocess.SubprocessError)
"""What a contender can do wrong; `AssertionError` is a server that did not start."""


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

    def values(self, figure: Figure) -> tuple[Spread, Spread]:
        ours, peers = zip(*self.pairs, strict=True)
        return (
            Spread.of([sample.value(figure) for sample in ours]),
            Spread.of([sample.value(figure) for sample in peers]),
        )

    def ratio(self, figure: Figure) -> Spread:
        """Ours to the peer's, within each pair."""
        return Spread.of([ours.value(figure) / peer.value(figure) for ours, peer in self.pairs])

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
        if target.ratio is not None:
            return self.ratio(figure).median <= target.ratio
        assert target.figure is not None
        return self.values(figure)[0].median <= target.figure


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
    """Measure one row. After `seconds` no further pair begins, but there is always one."""
    load = os.getloadavg()[0]
    pairs: list[tuple[Sample, Sample]] = []
    failure: str | None = None
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        try:
            states = []
            for contender in (ours, peer):
                with _blamed_on(contender, row.limit):
                    stage = Stage(contender, directory / contender.name, scale)
                    states.append(stack.enter_context(row.setup(stage)))
            for _ in range(min(rounds, row.most_rounds or rounds)):
                if pairs and time.monotonic() > deadline:
                    break
                samples = []
                for contender, state in zip((ours, peer), states, strict=True):
                    with _blamed_on(contender, row.limit):
                        samples.append(_sample(row, state))
                pairs.append((samples[0], samples[1]))
        except _Failed as error:
            failure = str(error)
    return Result(row, () if failure else tuple(pairs), failure, load)


class _Failed(Exception):
    pass


@contextlib.contextmanager
def _blamed_on(contender: Contender, limit: int) -> Iterator[None]:
    """Bound the time of the block, and name the contender that failed in it."""
    try:
        with _time_limit(limit):
            yield
    except _FAILURES as error:
        raise _Failed(f"{contender.name}: {str(error) or type(error).__name__}") from error


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


def _sample(row: Row[Any], state: object) -> Sample:
    meter = Meter()
    row.run(state, meter)
    row.verify(state)
    if meter.sample is None:
        raise Unverified("Nothing was measured.")
    return meter.sample
