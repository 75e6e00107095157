"""Reading content from end to end, to compare it with its name."""

from __future__ import annotations

from collections.abc import Callable

from storage.driver import Reader
from storage.hashing import Hasher

READ = 4 * 1024 * 1024


def hashed(
    reader: Reader, algorithm: str, told: Callable[[int], None] = lambda _length: None
) -> Hasher:
    """All that the reader has. `told` of each piece, it may take its time. Raises the driver's errors."""
    hasher = Hasher(algorithm)
    while data := reader.read_at(hasher.length, READ):
        hasher.update(data)
        told(len(data))
    return hasher
