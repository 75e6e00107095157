"""Making what users log in with."""

from __future__ import annotations

from typing import Final

import bcrypt

from auth.accounts import NAME_RULE, is_name

LONGEST: Final = 72
"""Bytes of a password that bcrypt looks at."""


def htpasswd_line(user: str, password: str, cost: int) -> str:
    """A line for an htpasswd file; behind its colon, the hash for a file of users.

    Raises ValueError with a sentence.
    """
    if not is_name(user):
        raise ValueError(f"{user!r} cannot be a user: {NAME_RULE}.")
    given = password.encode("utf-8")
    if not given or len(given) > LONGEST or b"\0" in given:
        raise ValueError(
            f"A password has 1 to {LONGEST} bytes; longer ones bcrypt cannot tell apart."
        )
    return f"{user}:{bcrypt.hashpw(given, bcrypt.gensalt(cost)).decode('ascii')}"
