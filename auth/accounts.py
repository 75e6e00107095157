"""People with a password: who they are, and how a password is checked without stalling anybody.

bcrypt takes tens of milliseconds on purpose. So a check runs in one of a few threads, a success is
remembered for a minute, and the same credentials arriving at the same time are checked once. What is
remembered is a keyed hash of name, password and stored hash: it is worth nothing outside this
process, and a changed password ends it.

A name that nobody has costs as much as a wrong password, so that the time of an answer does not tell
which names exist.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Protocol

import bcrypt

from auth.model import Undecided
from auth.watched import Clock

NAME_LIMIT: Final = 256
PASSWORD_LIMIT: Final = 72
"""Bytes. bcrypt does not see what follows, so two passwords that differ only there would be one."""

REMEMBERED: Final = 60.0
"""Seconds."""

_REMEMBERED_LIMIT: Final = 10_000
_WAITING_LIMIT: Final = 64
_COST_LIMIT: Final = 16
_USUAL_COST: Final = 10

NAME_RULE: Final = "a name has no spaces, colons, commas, asterisks or braces"

_NAME = re.compile(r"[^\s:,*{}]+")
_BCRYPT = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    groups: frozenset[str] = frozenset()
    stamp: str = ""
    """Changes with the password, so that what was given out for the old one can be told."""


class Accounts(Protocol):
    async def check(
        self, name: str, password: str, costs: Sequence[int] | None = None
    ) -> Account | None:
        """The account if the password is its own; None if not, or if there is no such account, or if
        it is disabled, and the time does not tell which. Raises Undecided if too many are waiting.

        `costs` are those of all stored hashes, where this source has not all of them.
        """

    @property
    def costs(self) -> Sequence[int]:
        """What checking a password costs, for each account, or for as many as tell how they spread."""

    async def remembered(self, name: str, password: str) -> Account | None:
        """The account if this password was right a moment ago and still is; None says nothing."""

    async def find(self, name: str) -> Account | None:
        """The account as it is now, without a password; None if it may not log in."""

    async def refreshed(self) -> None:
        """Take over a file that has changed. The answers below are as of the last time."""

    @property
    def version(self) -> object:
        """Another one after each change that was taken over."""

    def disables(self, name: str) -> bool:
        """Whether the account is shut out, wherever else its name has a password."""

    def groups_of(self, name: str) -> frozenset[str]:
        """What this source says of a name, wherever its password is."""

    @property
    def problem(self) -> str | None:
        """Why what is in force is not what the operator wrote last, or None."""


def is_name(text: str) -> bool:
    """Whether users and groups may be called so: what stands for more elsewhere is no name."""
    return len(text) <= NAME_LIMIT and _NAME.fullmatch(text) is not None and text.isprintable()


def usable(stored: bytes) -> bool:
    """Whether a stored hash is one that a password can be checked against."""
    match = _BCRYPT.fullmatch(stored)
    return match is not None and 4 <= int(match[1]) <= _COST_LIMIT


def cost(stored: bytes) -> int:
    match = _BCRYPT.fullmatch(stored)
    return int(match[1]) if match is not None else _USUAL_COST


def stamp(stored: bytes) -> str:
    """Tells two stored hashes apart and nothing about them."""
    return hashlib.sha256(b"holdfast password stamp\0" + stored).hexdigest()[:16]


class Passwords:
    """Checks passwords against stored hashes, for one or more files of accounts."""

    def __init__(
        self,
        *,
        threads: int | None = None,
        remembered: float = REMEMBERED,
        clock: Clock = time.monotonic,
    ) -> None:
        self._threads = ThreadPoolExecutor(
            threads or min(4, os.cpu_count() or 1), thread_name_prefix="passwords"
        )
        self._key = secrets.token_bytes(32)
        self._for = remembered
        self._clock = clock
        self._accepted: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._dummies: dict[int, bytes] = {}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def remembers(self, name: str, password: str, stored: bytes) -> bool:
        """Whether this very password was right a moment ago. Never waits."""
        return self._known(self._fingerprint(name, _octets(password), stored))

    async def check(
        self, name: str, password: str, stored: bytes | None, costs: Sequence[int] = ()
    ) -> bool:
        """Whether `password` is the one of `stored`; False after the same time if that is None.

        `costs` are those of the stored hashes that there are: the time of a name that nobody has is
        taken from among them, always the same for the same name. Raises Undecided if the threads have
        more to do than they will manage soon.
        """
        given = _octets(password)
        if not acceptable(password):
            return False  # whoever the name is of, so the short time tells nothing
        against = self._dummy(name, costs) if stored is None else stored
        fingerprint = self._fingerprint(name, given, against)
        if stored is not None and self._known(fingerprint):
            return True
        running = self._running.get(fingerprint)
        if running is None:
            if len(self._running) >= _WAITING_LIMIT:
                raise Undecided("Too many log-ins are being checked at the moment. Try again.")
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, _matches, given, against)
            self._running[fingerprint] = running
            running.add_done_callback(lambda _: self._running.pop(fingerprint, None))
        # A client that goes away must not cancel the check that others are waiting for.
        matches = await asyncio.shield(running)
        if stored is None or not matches:
            return False
        self._accepted[fingerprint] = self._clock() + self._for
        while len(self._accepted) > _REMEMBERED_LIMIT:
            self._accepted.popitem(last=False)
        return True

    def _known(self, fingerprint: bytes) -> bool:
        until = self._accepted.get(fingerprint)
        if until is None:
            return False
        if until > self._clock():
            return True
        del self._accepted[fingerprint]
        return False

    def _fingerprint(self, name: str, password: bytes, stored: bytes) -> bytes:
        parts = (_octets(name), password, stored)
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.new(self._key, message, hashlib.sha256).digest()

    def _dummy(self, name: str, costs: Sequence[int]) -> bytes:
        chosen = hmac.new(self._key, b"cost\0" + _octets(name), hashlib.sha256).digest()
        rounds = costs[int.from_bytes(chosen[:8], "big") % len(costs)] if costs else _USUAL_COST
        if rounds not in self._dummies:
            # Not computed: any well-formed hash costs the same to compare with.
            alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
            salt = bcrypt.gensalt(rounds)
            self._dummies[rounds] = salt + "".join(
                secrets.choice(alphabet) for _ in range(31)
            ).encode("ascii")
        return self._dummies[rounds]


class Combined:
    """Several files of accounts as one; a name belongs to the first that has it."""

    def __init__(self, parts: Sequence[Accounts]) -> None:
        if not parts:
            raise ValueError("There are no accounts to combine.")
        self._parts = tuple(parts)

    async def check(
        self, name: str, password: str, costs: Sequence[int] | None = None
    ) -> Account | None:
        owner = self._parts[0]
        for part in reversed(self._parts):
            if await part.find(name) is not None:
                owner = part
        # Of all files, or else a cost that only one of them has would tell that a name is in it.
        every = self.costs if costs is None else costs
        return self._completed(await owner.check(name, password, every))

    @property
    def costs(self) -> Sequence[int]:
        return tuple(cost for part in self._parts for cost in part.costs)

    async def remembered(self, name: str, password: str) -> Account | None:
        for part in self._parts:
            account = await part.remembered(name, password)
            if account is not None:
                return self._completed(account)
        return None

    async def find(self, name: str) -> Account | None:
        found = [account for part in self._parts if (account := await part.find(name))]
        return self._completed(found[0] if found else None)

    async def refreshed(self) -> None:
        for part in self._parts:
            await part.refreshed()

    @property
    def version(self) -> object:
        return tuple(part.version for part in self._parts)

    def disables(self, name: str) -> bool:
        return any(part.disables(name) for part in self._parts)

    def groups_of(self, name: str) -> frozenset[str]:
        return frozenset().union(*(part.groups_of(name) for part in self._parts))

    def _completed(self, account: Account | None) -> Account | None:
        if account is None or self.disables(account.name):
            return None
        return replace(account, groups=account.groups | self.groups_of(account.name))

    @property
    def problem(self) -> str | None:
        return " ".join(filter(None, (part.problem for part in self._parts))) or None


def acceptable(password: str) -> bool:
    """Whether bcrypt sees all of it: at most 72 bytes, none of them zero."""
    if len(password) > PASSWORD_LIMIT:
        return False  # before a megabyte is encoded
    given = _octets(password)
    return len(given) <= PASSWORD_LIMIT and b"\0" not in given


def costs_of(stored: Iterable[bytes]) -> tuple[int, ...]:
    """As many of the stored hashes' costs as tell how they are spread."""
    return tuple(cost(each) for each, _ in zip(stored, range(1000), strict=False))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _matches(password: bytes, stored: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, stored)
    except ValueError:  # a hash that looks right and is not one, such as a bad salt
        return False
