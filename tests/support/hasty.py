"""`registry` that takes up new signing keys within seconds: `python -m tests.support.hasty serve CONFIG`.

A real registry looks at the directory of keys every half minute and signs with a new one after a
minute, so that every node knows it by then. Here both are shorter, in the same proportion or a safer one.
"""

from __future__ import annotations

from functools import partial
from typing import Final
from unittest import mock

from auth.keys import KeyRing
from registry import authentication, cli

REREAD: Final = 1.0
GRACE: Final = 3.0
"""Seconds; a key counts as made at the beginning of its second."""


def main() -> None:
    hasty = partial(KeyRing, reread=REREAD, grace=GRACE)
    with mock.patch.object(authentication, "KeyRing", hasty):
        cli.main()


if __name__ == "__main__":
    main()
