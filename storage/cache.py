"""Bounded memories that a worker keeps.

What they hold is true for ever (the bytes of a digest), only raises suspicion (an expected size), or goes
out of date by a clock that whoever uses them keeps (storage/remembered.py).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Least recently used entries go when the weights add up to more than `limit`. Thread-safe."""

    def __init__(
        self,
        limit: int,
        weigh: Callable[[V], int] = lambda _: 1,
        observe: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._limit = limit
        self._weigh = weigh
        self._observe = observe
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
        self._observe(value is not None)
        return value

    def put(self, key: K, value: V) -> None:
        with self._lock:
            if (old := self._entries.pop(key, None)) is not None:
                self._weight -= self._weigh(old)
            self._entries[key] = value
            self._weight += self._weigh(value)
            while self._weight > self._limit:
                _, gone = self._entries.popitem(last=False)
                self._weight -= self._weigh(gone)

    def drop(self, key: K) -> None:
        with self._lock:
            if (old := self._entries.pop(key, None)) is not None:
                self._weight -= self._weigh(old)

    def entries(self) -> list[K]:
        with self._lock:
            return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
