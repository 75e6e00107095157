"""Failed log-ins make the next ones wait: per account, per address, and longer each time.

An attempt counts as failed from its beginning until it is known to have succeeded, so that many at once
gain nothing. An address from which an account has logged in is known to it for a day: there, only
its own failures count. So nobody can lock others out of their accounts by failing on purpose, unless
from an address that they share.

Memory is bounded: of more accounts or addresses than the limit, those untouched for longest are
forgotten.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from auth.model import Throttled
from auth.watched import Clock

ENTRIES: Final = 20_000
KNOWN_FOR: Final = 24 * 3600.0

_FORGET: Final = 3600.0  # seconds without an attempt after which earlier ones are forgotten


@dataclass(frozen=True, slots=True)
class Limit:
    free: int
    """Failures that cost nothing."""
    first: float
    """Seconds to wait after the next one; they double with each."""
    longest: float

    def delay(self, failures: int) -> float:
        over = failures - self.free
        if over < 0:
            return 0.0
        return min(self.first * 2.0 ** min(over, 30), self.longest)


PER_ACCOUNT: Final = Limit(free=5, first=1.0, longest=60.0)
"""Short at its longest, as the account's owner waits too if they come from a new address."""

PER_ADDRESS: Final = Limit(free=30, first=1.0, longest=900.0)
"""Many people may share one."""


@dataclass(slots=True)
class _Count:
    failures: int
    last: float


class _Counts:
    def __init__(self, limit: Limit, entries: int) -> None:
        self._limit = limit
        self._entries = entries
        self._counts: OrderedDict[Hashable, _Count] = OrderedDict()

    def wait(self, key: Hashable, now: float) -> float:
        count = self._counts.get(key)
        if count is None or now - count.last > _FORGET:
            return 0.0
        return max(0.0, count.last + self._limit.delay(count.failures) - now)

    def add(self, key: Hashable, now: float) -> None:
        count = self._counts.pop(key, None)
        if count is None or now - count.last > _FORGET:
            count = _Count(0, now)
        self._counts[key] = _Count(count.failures + 1, now)
        while len(self._counts) > self._entries:
            self._counts.popitem(last=False)

    def take_back(self, key: Hashable) -> None:
        count = self._counts.get(key)
        if count is not None:
            count.failures -= 1
            if count.failures <= 0:
                del self._counts[key]

    def clear(self, key: Hashable) -> None:
        self._counts.pop(key, None)

    def __len__(self) -> int:
        return len(self._counts)


@dataclass(frozen=True, slots=True)
class Attempt:
    pair: tuple[bytes, str]
    counted: tuple[tuple[_Counts, Hashable], ...]


class Throttle:
    """Used by any number of threads. Each process counts for itself."""

    def __init__(
        self,
        *,
        per_account: Limit = PER_ACCOUNT,
        per_address: Limit = PER_ADDRESS,
        entries: int = ENTRIES,
        clock: Clock = time.monotonic,
    ) -> None:
        self._accounts = _Counts(per_account, entries)
        self._addresses = _Counts(per_address, entries)
        self._pairs = _Counts(per_account, entries)
        self._known: OrderedDict[Hashable, float] = OrderedDict()
        self._entries = entries
        self._clock = clock
        self._lock = threading.Lock()

    def attempt(self, account: str, address: str) -> Attempt:
        """Count an attempt, as failed until `succeeded` or `withdrawn` says otherwise.

        `account` may be empty where nothing is known of it, `address` over a Unix socket. Raises
        Throttled, and then the attempt has not been counted and is not to be made.
        """
        name, network, now = _hashed(account), _network(address), self._clock()
        with self._lock:
            counts = self._counts(name, network, now)
            wait = max((each.wait(key, now) for each, key in counts), default=0.0)
            if wait > 0:
                seconds = max(1, math.ceil(wait))
                raise Throttled(
                    f"Too many failed log-ins. Wait {seconds} s and try again with the right "
                    "password.",
                    retry_after=seconds,
                )
            for each, key in counts:
                each.add(key, now)
        return Attempt((name, network), tuple(counts))

    def succeeded(self, attempt: Attempt) -> None:
        pair = attempt.pair
        with self._lock:
            self._take_back(attempt)
            if all(pair):
                self._pairs.clear(pair)
                self._known.pop(pair, None)
                self._known[pair] = self._clock() + KNOWN_FOR
                while len(self._known) > self._entries:
                    self._known.popitem(last=False)

    def withdrawn(self, attempt: Attempt) -> None:
        """The attempt came to no result, such as when nobody could be asked."""
        with self._lock:
            self._take_back(attempt)

    @staticmethod
    def _take_back(attempt: Attempt) -> None:
        for each, key in attempt.counted:
            each.take_back(key)

    def _counts(self, name: bytes, network: str, now: float) -> list[tuple[_Counts, Hashable]]:
        pair = (name, network)
        if name and network and self._known.get(pair, 0.0) > now:
            return [(self._pairs, pair)]
        counts: list[tuple[_Counts, Hashable]] = []
        if name:
            counts.append((self._accounts, name))
        if network:
            counts.append((self._addresses, network))
        return counts


def _hashed(account: str) -> bytes:
    """Of one length whatever a client sends."""
    if not account:
        return b""
    return hashlib.sha256(account.encode("utf-8", "surrogateescape")).digest()[:16]


def _network(address: str) -> str:
    """Of IPv6 the /64, as whoever has one address has them all."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)
