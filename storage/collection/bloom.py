"""A set of entries in 20 bits each, which never denies a member and wrongly admits one in ten thousand.

A wrong yes costs one small write and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

BITS_PER_ENTRY = 20
HASHES = 14
LARGEST = 2_000_000
"""Entries in one filter: 5 MB."""


class Bloom:
    """Its bytes are its form in storage: the number of bits is eight times their count."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = content
        self._bits = len(content) * 8

    @classmethod
    def of(cls, entries: Iterable[str], count: int) -> Bloom:
        """`count`: how many entries there will be, or more."""
        content = bytearray(max(8, (count * BITS_PER_ENTRY + 7) // 8))
        made = cls(content)
        for entry in entries:
            for place in made._positions(entry):
                content[place >> 3] |= 1 << (place & 7)
        return made

    def __contains__(self, entry: str) -> bool:
        content = self.content
        return all(content[place >> 3] >> (place & 7) & 1 for place in self._positions(entry))

    def _positions(self, entry: str) -> Iterator[int]:
        """Kirsch and Mitzenmacher: two hashes stand for any number."""
        hashed = hashlib.sha256(entry.encode()).digest()
        first = int.from_bytes(hashed[:8], "big")
        step = int.from_bytes(hashed[8:16], "big") | 1
        for number in range(HASHES):
            yield (first + number * step) % self._bits
