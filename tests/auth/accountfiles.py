"""Files of accounts for the tests, hashed as cheaply as bcrypt allows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import bcrypt

COST = 4


@lru_cache
def hashed(password: str, cost: int = COST) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def htpasswd(path: Path, *users: str, **passwords: str) -> Path:
    """Each of `users` with a password like `alice's`, or the one that is named."""
    known = {user: f"{user}'s" for user in users} | passwords
    path.write_text("".join(f"{name}:{hashed(word)}\n" for name, word in known.items()))
    return path


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds
