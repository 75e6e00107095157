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


def test_the_first_failure_in_order_is_raised() -> None:
    last = threading.Event()

    def ask(number: int) -> int:
        if number == 1:
            assert last.wait(PATIENCE)
            raise KeyError("first")
        if number == 2:
            last.set()
            raise ValueError("second, but sooner")
        return number

    with pytest.raises(KeyError, match="first"):
        at_once(REMOTE, ask, range(3))


def test_what_the_caller_has_set_is_set_there_too() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("the caller's")
    assert at_once(REMOTE, lambda _: variable.get(), range(3)) == ["the caller's"] * 3


def test_a_child_has_threads_of_its_own() -> None:
    at_once(REMOTE, str, range(3))
    child = multiprocessing.get_context("fork").Process(
        target=at_once, args=(REMOTE, str, range(3))
    )
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
