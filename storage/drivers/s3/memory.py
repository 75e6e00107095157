"""How much of the uploads this process holds in memory, whatever their number and size.

An upload takes a whole part's worth before it buffers more than FREE bytes of it, and gives it back when
the part is sent. So every one that has taken some can finish its part: they never wait for each other in
a circle, and one that gets nothing for PATIENCE seconds is turned away while others go on.
"""

from __future__ import annotations

import threading
import time

from storage.driver import Overloaded

FREE = 1024 * 1024
"""Bytes that any upload may buffer unasked: most configs and many layers are smaller."""

PATIENCE = 10.0


class Budget:
    """Bytes shared by threads."""

    def __init__(self, limit: int, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._limit = limit
        self._free = limit
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        return self._limit - self._free

    def take(self, count: int) -> None:
        """Wait for `count` bytes, at most the limit. Raises Overloaded."""
        deadline = time.monotonic() + self.patience
        with self._changed:
            while self._free < count:
                if not self._changed.wait(max(deadline - time.monotonic(), 0)):
                    raise Overloaded(
                        f"the uploads under way fill {self._limit} bytes of memory; try again, or "
                        "raise `uploadmemory`"
                    )
            self._free -= count

    def give_back(self, count: int) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()
