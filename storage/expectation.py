"""What a compare-and-set requires of a tag before it is changed (RFC 9110 section 13.1)."""

from __future__ import annotations

from typing import Final

from storage.driver import Anything
from storage.model.digest import Digest


class Present:
    """The type of PRESENT."""


PRESENT: Final = Present()
"""Whatever it names, as long as it names something: `If-Match: *`."""

Expectation = Digest | Present | Anything | None
"""This digest; PRESENT; ANYTHING, which is no condition at all; or None, that there is none yet."""


def holds(expected: Expectation, actual: Digest | None) -> bool:
    if isinstance(expected, Anything):
        return True
    return actual is not None if isinstance(expected, Present) else actual == expected


def described(expected: Expectation) -> str:
    """For a sentence that ends in "only if ..."."""
    if isinstance(expected, Present | Anything):
        return "present"
    return "absent" if expected is None else str(expected)
