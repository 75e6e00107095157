"""Which credentials have been taken back: kept in storage, known to every node within half a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from auth.model import Undecided
from auth.watched import Clock

log = logging.getLogger("holdfast.auth")

LONGEST: Final = 30.0
"""Seconds for which what was read last is believed."""

SOON: Final = 10.0
"""Seconds after which it is read again, without anybody waiting."""


@dataclass(frozen=True, slots=True)
class Revocation:
    id: str
    until: int
    """Seconds since the epoch; from then on the credential has expired, and nobody need remember."""
    note: str = ""


class Revocations(Protocol):
    """What is asked of the storage. Both block, and raise any Exception where it does not answer."""

    def listed(self) -> Collection[Revocation]:
        """All there are, as any node added them."""

    def add(self, revocation: Revocation) -> None:
        """Durable, and listed on every node, when it returns. Adding twice is no error."""


class RevocationList:
    """What a node knows of the revocations. Belongs to one event loop."""

    def __init__(self, revocations: Revocations, *, clock: Clock = time.monotonic) -> None:
        self._revocations = revocations
        self._clock = clock
        self._ids: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def revoked(self, id: str) -> bool:  # noqa: A002  # what it is
        """Raises Undecided if the list is too old and cannot be read: better no answer than a wrong one."""
        age = self._clock() - self._read_at
        if age >= SOON and self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="revocations")
            self._reading.add_done_callback(self._ended)
        if age >= LONGEST and self._reading is not None:
            await asyncio.shield(self._reading)
        if self._clock() - self._read_at >= LONGEST:
            raise Undecided("Whether the token was revoked cannot be told now. Try again.")
        return id in self._ids

    async def _read(self) -> None:
        begun = self._clock()  # what is added while it is read may not be in it
        try:
            listed = await asyncio.to_thread(self._revocations.listed)
        except Exception as error:  # noqa: BLE001  # whatever the storage raises, the answer is the same
            log.error("The list of revoked tokens cannot be read: %s", error)
            return
        self._ids = frozenset(each.id for each in listed)
        self._read_at = begun

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._reading = None
