"""Tokens of robots and users that were made or taken back, in the storage that all nodes share.

Of one that was taken back, the key says all that a node has to know, so that a listing of a thousand is one
request. Of one that was made, a record without its secret is kept, for the list of those there are. What
has expired by itself is not told any more, and is removed when another one is added.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from auth.audit import describe
from auth.revocations import Revocation
from auth.robots import Credential
from storage import layout
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound

_NAME = re.compile(r"([0-9a-f]{1,64})\.([0-9]{1,12})", re.ASCII)
_NOTE = 1000


class StoredRevocations:
    """An `auth.revocations.Revocations`. Raises the driver's errors."""

    def __init__(self, driver: Driver, clock: Callable[[], float] = time.time) -> None:
        self._driver = driver
        self._clock = clock

    def listed(self) -> Collection[Revocation]:
        now = self._clock()
        return [each for each in self._all() if each.until > now]

    def add(self, revocation: Revocation) -> None:
        if not _NAME.fullmatch(name := f"{revocation.id}.{revocation.until}"):
            raise ValueError(
                f"{revocation.id!r} is no id of a token; registry token list has them."
            )
        note = revocation.note[:_NOTE].encode("utf-8", "replace")
        self._driver.write(f"{layout.REVOKED}/{name}", note)
        now = self._clock()
        expired = [each for each in self._all() if each.until <= now]
        self._driver.delete_many(f"{layout.REVOKED}/{each.id}.{each.until}" for each in expired)

    def _all(self) -> list[Revocation]:
        names = (child.name for child in self._driver.list(layout.REVOKED))
        return [Revocation(m[1], int(m[2])) for name in names if (m := _NAME.fullmatch(name))]


@dataclass(frozen=True, slots=True)
class Made:
    """What is kept of a token: everything but the token."""

    id: str
    kind: str
    name: str
    scopes: str
    issued: int
    expires: int


class MadeTokens:
    """Raises the driver's errors."""

    def __init__(self, driver: Driver, clock: Callable[[], float] = time.time) -> None:
        self._driver = driver
        self._clock = clock

    def add(self, credential: Credential) -> None:
        content = {
            "kind": credential.kind,
            "name": credential.name,
            "scopes": describe(credential.limits),
            "issued": credential.issued,
        }
        key = f"{layout.TOKENS}/{credential.id}.{credential.expires}"
        self._driver.write(key, json.dumps(content).encode("ascii"))
        now = self._clock()
        self._driver.delete_many(
            f"{layout.TOKENS}/{name}" for name, (_, expires) in self._names() if expires <= now
        )

    def listed(self) -> list[Made]:
        """Those that have not expired, the oldest first."""
        found = []
        for name, (identifier, expires) in self._names():
            if expires <= self._clock():
                continue
            try:
                content = json.loads(self._driver.read(f"{layout.TOKENS}/{name}"))
                found.append(Made(identifier, expires=expires, **content))
            except (ObjectNotFound, ValueError, TypeError):
                found.append(Made(identifier, "?", "unreadable record", "", 0, expires))
        return sorted(found, key=lambda made: made.issued)

    def _names(self) -> list[tuple[str, tuple[str, int]]]:
        names = (child.name for child in self._driver.list(layout.TOKENS))
        return [(n, (m[1], int(m[2]))) for n in names if (m := _NAME.fullmatch(n))]
