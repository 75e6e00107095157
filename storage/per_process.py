"""Values that do not survive a fork.

Sockets and locks would be shared with the parent, and threads are gone. So they are made when first used,
and anew in a child.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value made when first asked for, once in each process."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[T] | None = None
        _EVERY.add(self)

    def get(self) -> T:
        made = self._made
        if made is not None:
            return made[0]
        with self._lock:
            if self._made is None:
                self._made = (self._make(),)
            return self._made[0]

    def peek(self) -> T | None:
        return None if self._made is None else self._made[0]

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._made = None


_EVERY: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


def _forget_every() -> None:
    for value in _EVERY:
        value.forget()


os.register_at_fork(after_in_child=_forget_every)


def threads(count: int, name: str) -> PerProcess[ThreadPoolExecutor]:
    return PerProcess(lambda: ThreadPoolExecutor(count, thread_name_prefix=name))
