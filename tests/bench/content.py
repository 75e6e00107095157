"""Bytes to push and pull: as long as asked, the same for the same seed, and cheap to compare with.

A random block repeats, at a period that is no multiple of any page, chunk or buffer, so that bytes
in the wrong place differ from those that belong there. Only one period is held in memory.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator
from functools import cached_property

MIB = 1024 * 1024
PIECE = MIB
"""The most that `slice` hands out at once."""

_serial = itertools.count(1)


def new_seed() -> int:
    """One that this process has not used."""
    return next(_serial)


class Content:
    def __init__(self, size: int, *, seed: int | None = None, period: int = 16 * MIB) -> None:
        """`seed` None takes one that this process has not used, so that no two blobs are the same."""
        self.size = size
        source = random.Random(f"holdfast {seed if seed is not None else new_seed()}")
        self._period = min(period + 4099, max(size, 1))
        block = source.randbytes(self._period)
        once = size <= self._period
        self._repeated = memoryview(block * (1 if once else 1 + -(-PIECE // self._period)))

    def slice(self, offset: int, length: int = PIECE) -> memoryview:
        """At most `length` bytes from `offset`, fewer at the end; `length` is at most PIECE."""
        start = offset % self._period
        return self._repeated[start : start + max(0, min(length, PIECE, self.size - offset))]

    def pieces(self) -> Iterator[memoryview]:
        return (self.slice(offset) for offset in range(0, self.size, PIECE))

    @cached_property
    def digest(self) -> str:
        return hashed(self.pieces())


def hashed(pieces: Iterable[bytes | memoryview]) -> str:
    state = hashlib.sha256()
    for piece in pieces:
        state.update(piece)
    return f"sha256:{state.hexdigest()}"
