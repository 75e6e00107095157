"""A set of entries in 20 bits each, which never denies a member and wrongly admits one in ten thousand.

A wrong yes costs one small write and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

BITS_PER_ENTRY = 20
HASHES = 14
LARGEST = 2_000_000
"""Entries in one filter: 5 MB."""
_HASHED: Final = 16


class Members:
    """What is to be in a filter, in 16 bytes each: the entries themselves would take ten times that."""

    def __init__(self) -> None:
        self._hashed = bytearray()

    def add(self, entry: str) -> None:
        self._hashed += _hashed(entry)

    def clear(self) -> None:
        self._hashed.clear()

    def __len__(self) -> int:
        return len(self._hashed) // _HASHED

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._hashed), _HASHED):
            yield bytes(self._hashed[start : start + _HASHED])


class Bloom:
    """Its bytes are its form in storage: the number of bits is eight times their count."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = content
        self._bits = len(content) * 8

    @classmethod
    def of(cls, members: Members) -> Bloom:
        content = bytearray(max(8, (len(members) * BITS_PER_ENTRY + 7) // 8))
        made = cls(content)
        for hashed in members:
            for place in made._positions(hashed):
                content[place >> 3] |= 1 << (place & 7)
        return made

    def __contains__(self, entry: str) -> bool:
        content = self.content
        return all(
            content[place >> 3] >> (place & 7) & 1 for place in self._positions(_hashed(entry))
        )

    def _positions(self, hashed: bytes) -> Iterator[int]:
        """Kirsch and Mitzenmacher: two hashes stand for any number."""
        first = int.from_bytes(hashed[:8], "big")
        step = int.from_bytes(hashed[8:], "big") | 1
        for number in range(HASHES):
            yield (first + number * step) % self._bits


def _hashed(entry: str) -> bytes:
    return hashlib.sha256(entry.encode()).digest()[:_HASHED]
