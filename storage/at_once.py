"""Doing the same to several things, at once where each is a request to another machine."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import TypeVar

from storage.driver import Driver
from storage.per_process import threads

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16
"""In a process. Whoever waits for one of these must not be one of them."""

_pool = threads(AT_ONCE, "at-once")


def at_once(driver: Driver, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`function` of each, in order. Raises what the first that fails raises; then others may be under way.

    One after the other where the driver is not remote, or where there is one only.
    """
    wanted = list(items)
    if len(wanted) < 2 or not driver.remote:
        return [function(item) for item in wanted]
    return list(
        _pool.get().map(
            lambda context, item: context.run(function, item),
            [contextvars.copy_context() for _ in wanted],
            wanted,
        )
    )
