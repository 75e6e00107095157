"""Apache's htpasswd file as Distribution reads it: `name:hash` lines, bcrypt only, read again on change.

A line whose hash is not bcrypt is no account: it is warned of, and the others work. A line without a
colon makes the whole file wrong, as in Distribution. A file that is missing at the start is created,
with one user and a random password that is written to the log once.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import bcrypt

from auth.accounts import Account, Passwords, costs_of, stamp, usable
from auth.watched import INTERVAL, Clock, WatchedFile

log = logging.getLogger("holdfast.auth")

FIRST_USER: Final = "docker"


@dataclass(frozen=True, slots=True)
class Entries:
    hashes: Mapping[str, bytes]
    costs: tuple[int, ...]
    unusable: tuple[str, ...] = ()
    """Sentences about lines that are no account."""


def parse(data: bytes) -> Entries:
    """Raises ValueError with a sentence if a line is no entry at all."""
    hashes: dict[str, bytes] = {}
    unusable: list[str] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        name, colon, stored = line.partition(b":")
        if not colon or not name or not stored:
            raise ValueError(
                f"line {number} is not `name:hash`; make one with `htpasswd -nB NAME`."
            )
        try:
            user = name.decode("utf-8")
        except UnicodeDecodeError:
            unusable.append(f"line {number}: the name is not UTF-8.")
            continue
        if user in hashes:
            unusable.append(f"line {number}: the name stands above already; this line counts.")
        if usable(stored):
            hashes[user] = stored
        else:
            hashes.pop(user, None)
            unusable.append(
                f"line {number}: the hash is not bcrypt of cost 4 to 16, so this user cannot log in; "
                "make another with `htpasswd -B`."
            )
    return Entries(hashes, costs_of(hashes.values()), tuple(unusable))


def announce(path: str, name: str, password: str) -> None:
    """Say how to log in with a file that has just been created."""
    log.warning(
        "htpasswd %s was missing and has been created. Its only user is %s, who logs in with %s "
        "until you replace the file; this is not said again.",
        path,
        name,
        password,
    )


class HtpasswdFile:
    """Accounts without groups."""

    def __init__(
        self,
        path: str,
        passwords: Passwords,
        *,
        announce: Callable[[str, str, str], None] = announce,
        interval: float = INTERVAL,
        clock: Clock = time.monotonic,
    ) -> None:
        """Raises Unusable if the file cannot be read, or created where it is missing."""
        self._passwords = passwords
        created = _create(path)
        if created is not None:
            announce(path, FIRST_USER, created)
        self._file = WatchedFile(path, parse, what="htpasswd", interval=interval, clock=clock)
        self._warned = 0
        self._warn()

    async def check(
        self, name: str, password: str, costs: Sequence[int] | None = None
    ) -> Account | None:
        entries = await self._entries()
        stored = entries.hashes.get(name)
        spread = entries.costs if costs is None else costs
        right = await self._passwords.check(name, password, stored, spread)
        if not right or stored is None:
            return None
        account = await self.find(name)
        return account if account is not None and account.stamp == stamp(stored) else None

    async def remembered(self, name: str, password: str) -> Account | None:
        stored = (await self._entries()).hashes.get(name)
        if stored is None or not self._passwords.remembers(name, password, stored):
            return None
        return Account(name, stamp=stamp(stored))

    async def find(self, name: str) -> Account | None:
        stored = (await self._entries()).hashes.get(name)
        return None if stored is None else Account(name, stamp=stamp(stored))

    @property
    def costs(self) -> Sequence[int]:
        return self._file.content.costs

    async def refreshed(self) -> None:
        await self._file.refreshed()
        self._warn()

    @property
    def version(self) -> object:
        return self._file.loaded

    def disables(self, name: str) -> bool:
        return False

    def groups_of(self, name: str) -> frozenset[str]:
        return frozenset()

    @property
    def problem(self) -> str | None:
        return self._file.problem

    async def _entries(self) -> Entries:
        await self.refreshed()
        return self._file.content

    def _warn(self) -> None:
        if self._warned != self._file.loaded:
            self._warned = self._file.loaded
            for sentence in self._file.content.unusable:
                log.warning("htpasswd %s, %s", self._file.path, sentence)


def _create(path: str) -> str | None:
    """The password of the file's one user, or None if there was a file.

    Of several processes that start at once, one creates it; the others may read it while it is still
    empty, and read it again when it is not. Any other failure is left to whoever opens it next.
    """
    if os.path.lexists(path):
        return None
    password = secrets.token_urlsafe(32)
    line = FIRST_USER.encode() + b":" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(10))
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None  # created by another process a moment ago, or WatchedFile says why not
    with open(descriptor, "wb") as file:
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return password
