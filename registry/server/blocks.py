"""Memory that bodies are received into, and that is used again once nobody looks at it any more.

A fresh MiB costs a page fault for every four KiB of it, which is a part of what receiving it costs.
"""

from __future__ import annotations

from typing import Final

from registry.streaming import BATCH

_KEPT: Final = 4
"""As many as one busy upload has in use at once. More uploads than that take fresh memory."""
BETWEEN: Final = 4096
"""Bytes that a batch of chunks may need for the lines between them."""
_SIZE: Final = BATCH + BETWEEN


class Blocks:
    """Of one worker; not thread-safe, though what it gives out may be read in any thread."""

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def take(self, size: int) -> memoryview:
        """Memory of `size` bytes, whatever is in it, that nobody else has."""
        if not BATCH <= size <= _SIZE:
            return memoryview(bytearray(size))
        for block in self._kept:
            if _is_free(block):
                return memoryview(block)[:size]
        block = bytearray(_SIZE)
        if len(self._kept) < _KEPT:
            self._kept.append(block)
        return memoryview(block)[:size]


def _is_free(block: bytearray) -> bool:
    """Whether no memoryview of it is left: while there is one, Python lets nobody change the size."""
    try:
        block.append(block.pop())
    except BufferError:
        return False
    return True
