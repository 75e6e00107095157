"""Digests: `algorithm:hex`, sha256 or sha512 (image-spec, descriptor.md "Digests")."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from storage.model.errors import DigestInvalid

HEX_LENGTHS = {"sha256": 64, "sha512": 128}
CANONICAL = "sha256"

HEX = {name: re.compile(rf"[0-9a-f]{{{length}}}") for name, length in HEX_LENGTHS.items()}
_LONGEST = max(len(name) + 1 + length for name, length in HEX_LENGTHS.items())


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest that is well formed and of an algorithm the registry knows."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        form = HEX.get(self.algorithm)
        if form is None or not form.fullmatch(self.hex):
            raise DigestInvalid(
                "A digest is 'sha256:' with 64, or 'sha512:' with 128 lower-case hexadecimal digits.",
                {"digest": f"{self.algorithm}:{self.hex}"[: _LONGEST + 1]},
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises DigestInvalid. Costs the same whatever the length of `text`."""
        algorithm, _, hexadecimal = text[: _LONGEST + 1].partition(":")
        return cls(algorithm, hexadecimal)

    @classmethod
    def of(cls, data: bytes, algorithm: str = CANONICAL) -> Self:
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def matches(self, data: bytes) -> bool:
        return hashlib.new(self.algorithm, data).hexdigest() == self.hex

    def __hash__(self) -> int:
        """Digits of one algorithm are none of another, and text remembers its hash."""
        return hash(self.hex)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse_algorithm(text: str) -> str:
    """The `digest-algorithm` of an upload (end-4c). Raises DigestInvalid."""
    if text not in HEX_LENGTHS:
        raise DigestInvalid(
            f"The registry computes {' and '.join(HEX_LENGTHS)} digests, no other algorithm.",
            {"digest-algorithm": text[:32]},
        )
    return text
