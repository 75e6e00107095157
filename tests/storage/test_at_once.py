from __future__ import annotations

import contextvars
import multiprocessing
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from storage.at_once import AT_ONCE, at_once

REMOTE: Any = SimpleNamespace(remote=True)
LOCAL: Any = SimpleNamespace(remote=False)
PATIENCE = 30.0


def test_requests_to_another_machine_are_under_way_together() -> None:
    together = threading.Barrier(AT_ONCE)

    def ask(number: int) -> int:
        together.wait(PATIENCE)
        return number * 2

    assert at_once(REMOTE, ask, range(AT_ONCE)) == [number * 2 for number in range(AT_ONCE)]


def test_nobody_waits_for_the_work_of_others() -> None:
    """One caller has all the helpers; another goes on by itself."""
    begun = threading.Barrier(AT_ONCE + 3)  # with the two callers and this thread
    go_on = threading.Event()

    def hold(_: int) -> None:
        begun.wait(PATIENCE)
        assert go_on.wait(PATIENCE)

    others = [
        threading.Thread(target=at_once, args=(REMOTE, hold, range(AT_ONCE // 2 + 1)))
        for _ in range(2)
    ]
    for other in others:
        other.start()
    begun.wait(PATIENCE)
    mine = threading.get_ident()
    try:
        asked = at_once(REMOTE, lambda _: threading.get_ident(), range(AT_ONCE))
    finally:
        go_on.set()
        for other in others:
            other.join(PATIENCE)
    assert asked == [mine] * AT_ONCE


@pytest.mark.parametrize(
    ("driver", "count"), [(LOCAL, 5), (REMOTE, 1)], ids=["local", "one thing only"]
)
def test_else_the_caller_does_it_itself(driver: Any, count: int) -> None:
    mine = threading.get_ident()
    asked = at_once(driver, lambda _: threading.get_ident(), range(count))
    assert asked == [mine] * count
    assert at_once(driver, str, []) == []


def test_more_than_there_are_threads_for() -> None:
    assert at_once(REMOTE, str, range(10 * AT_ONCE)) == [str(n) for n in range(10 * AT_ONCE)]


def test_the_first_failure_in_order_is_raised_and_no_more_is_begun() -> None:
    both = threading.Barrier(2)
    later = threading.Event()
    begun = []

    def ask(number: int) -> int:
        begun.append(number)
        if number < 2:
            both.wait(PATIENCE)
        if number == 0:
            assert later.wait(PATIENCE)
            raise KeyError("first")
        later.set()
        raise ValueError("second, but sooner")

    with pytest.raises(KeyError, match="first"):
        at_once(REMOTE, ask, range(10 * AT_ONCE))
    assert len(begun) <= AT_ONCE


def test_what_the_caller_has_set_is_set_there_too() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("the caller's")
    assert at_once(REMOTE, lambda _: variable.get(), range(3)) == ["the caller's"] * 3


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_has_threads_of_its_own() -> None:
    at_once(REMOTE, str, range(3))
    child = multiprocessing.get_context("fork").Process(
        target=at_once, args=(REMOTE, str, range(3))
    )
    child.start()
    try:
        child.join(PATIENCE)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
