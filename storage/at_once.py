"""Doing the same to several things, at once where each is a request to another machine."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from storage.driver import Driver
from storage.per_process import threads

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16
"""By one caller, which does its part itself; and by a process besides what its callers do themselves."""

_helpers = threads(AT_ONCE, "at-once")


def at_once(driver: Driver, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`function` of each, in order.

    By the caller alone where the driver is not remote; and where others have all the helpers, so that
    nobody waits for another's work. After a failure nothing more is begun. What is under way is waited
    for, and the first failure in the order of the items is raised.
    """
    wanted = list(items)
    if len(wanted) < 2 or not driver.remote:
        return [function(item) for item in wanted]
    results: dict[int, R] = {}
    failures: dict[int, Exception] = {}
    left = deque(enumerate(wanted))

    def work() -> None:
        while left:
            try:
                number, item = left.popleft()
            except IndexError:  # another was faster
                return
            try:
                results[number] = function(item)
            except Exception as error:  # noqa: BLE001 - raised below
                failures[number] = error
                left.clear()

    pool = _helpers.get()
    helpers = [
        pool.submit(contextvars.copy_context().run, work)
        for _ in range(min(AT_ONCE, len(wanted)) - 1)
    ]
    work()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    if failures:
        raise failures[min(failures)]
    return [results[number] for number in range(len(wanted))]
