"""Hostile input is refused at once: checks of that which a busy machine does not fail.

A single measurement says how busy the machine was. The best of several says what the work takes: it is
repeated until once it was fast enough, so that only what never is fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

RULE = 0.1
"""Seconds that any refusal may take."""
TRIES = 20
REPEATS = 7
NOTICEABLE = 0.0005
"""Seconds below which a measurement says nothing of how the work grows."""


def promptly(work: Callable[[], T], clock: Callable[[], float] = time.process_time) -> T:
    """What `work` returns; fails if none of many runs kept to RULE, by processor time or another clock."""
    best = float("inf")
    for _ in range(TRIES):
        begun = clock()
        result = work()
        best = min(best, clock() - begun)
        if best < RULE:
            return result
    raise AssertionError(f"the best of {TRIES} runs took {best:.3f} s, and {RULE} s are allowed")


def grows_linearly(work: Callable[[int], object], size: int, factor: int = 8) -> None:
    """Fails if `work(factor * size)` takes far more than `factor` times the processor time of `work(size)`.

    The margin of 3 is well below what work of quadratic cost would need, which is `factor` again.
    """
    small = max(_least(work, size), NOTICEABLE)
    large = _least(work, factor * size)
    assert large < 3 * factor * small, f"{size}: {small:.5f} s, {factor} times that: {large:.5f} s"


def _least(work: Callable[[int], object], size: int) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.process_time()
        work(size)
        best = min(best, time.process_time() - begun)
    return best
