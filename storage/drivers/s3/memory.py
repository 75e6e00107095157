"""How much of the uploads this process holds in memory, whatever their number and size.

An upload takes a whole part's worth before it buffers more than FREE bytes of it, and gives it back when
the part is sent. So every one that has taken some can finish its part: they never wait for each other in
a circle, and one that gets nothing for PATIENCE seconds is turned away while others go on.

A few may have parts twice as large, which halves their requests. Such a part is taken in two steps; the
few that wait in between hold an eighth of the memory at most, so the others still finish theirs.
"""

from __future__ import annotations

import threading
import time

from storage.driver_errors import Overloaded

FREE = 1024 * 1024
"""Bytes that any upload may buffer unasked: most configs and many layers are smaller."""

PATIENCE = 10.0

WIDE = 2
"""How many times the usual a wide upload's parts are."""
_SHARE = 8


class Budget:
    """Bytes shared by threads."""

    def __init__(self, limit: int, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._limit = limit
        self._free = limit
        self._wide = 0
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

    def widen(self, part: int) -> bool:
        """Whether one more upload may have wide parts, of WIDE times `part`; until narrow()."""
        with self._changed:
            share = (self._wide + 1) * part * WIDE * _SHARE
            if share > self._limit or self._free < self._limit // 2:
                return False
            self._wide += 1
            return True

    def narrow(self) -> None:
        with self._changed:
            self._wide -= 1

    def give_back(self, count: int) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()
