"""All blobs of a storage, shard by shard.

On remote storage a request lists a thousand keys, so few blobs are listed from end to end; many, and
those of a filesystem, a shard at a time, the next ones while one is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import groupby
from typing import NamedTuple, Protocol

from registry_gc.spill import SHARDS
from storage import layout
from storage.driver import Driver
from storage.driver_errors import Unavailable
from storage.model.digest import HEX, HEX_LENGTHS

AHEAD = 8
HELD = 100_000
"""Blobs in memory at most, or those of one shard."""
MANY = 100_000


class Blob(NamedTuple):
    digest: str
    """The text of a Digest: there are millions."""
    size: int
    modified: float


Shard = Sequence[Blob]


class BlobListing(Protocol):
    def shard(self, shard: int) -> Shard:
        """Once for each, in order. Raises the driver's errors."""


def list_blobs(driver: Driver, pool: Executor, expected: int, *, first: int = 0) -> BlobListing:
    """`expected`: about how many there are. `first`: the first shard that is asked for."""
    if driver.remote and expected < MANY and not first:
        return FlatListing(driver)
    return ShardedListing(driver, pool)


class FlatListing:
    def __init__(self, driver: Driver) -> None:
        self._streams = [_stream(driver, algorithm) for algorithm in HEX_LENGTHS]
        self._next = [next(stream, None) for stream in self._streams]

    def shard(self, shard: int) -> Shard:
        found: list[Blob] = []
        for number, stream in enumerate(self._streams):
            upcoming = self._next[number]
            if upcoming is None or upcoming[0] > shard:
                continue
            if upcoming[0] < shard:
                raise Unavailable("the store does not list keys in their order")
            found += upcoming[1]
            self._next[number] = next(stream, None)
        return found


class ShardedListing:
    def __init__(self, driver: Driver, pool: Executor) -> None:
        self._driver = driver
        self._pool = pool
        self._begun: dict[int, Future[Shard]] = {}
        self._ahead = 0  # until the first says how many a shard has

    def shard(self, shard: int) -> Shard:
        for number in range(shard, min(SHARDS, shard + 1 + self._ahead)):
            if number not in self._begun:
                self._begun[number] = self._pool.submit(self._list, number)
        found = self._begun.pop(shard).result()
        self._ahead = max(0, min(AHEAD, HELD // max(1, len(found)) - 1))
        return found

    def _list(self, shard: int) -> Shard:
        found: list[Blob] = []
        for algorithm in HEX_LENGTHS:
            place = f"{layout.BLOBS}/{algorithm}/{shard:02x}"
            for name, size, modified in self._driver.leaves(place, "data"):
                if _is_blob(algorithm, f"{shard:02x}", name):
                    found.append(Blob(f"{algorithm}:{name}", size, modified))
        return found


def _stream(driver: Driver, algorithm: str) -> Iterator[tuple[int, Shard]]:
    place = f"{layout.BLOBS}/{algorithm}"
    every = ((info.key[len(place) + 1 :].split("/"), info) for info in driver.walk(place))
    blobs = (
        (parts[0], Blob(f"{algorithm}:{parts[1]}", info.size, info.modified))
        for parts, info in every
        if len(parts) == 3 and parts[2] == "data" and _is_blob(algorithm, *parts[:2])
    )
    for shard, group in groupby(blobs, key=lambda each: each[0]):
        yield int(shard, 16), [blob for _, blob in group]


def _is_blob(algorithm: str, shard: str, name: str) -> bool:
    """Else it is litter."""
    return name[:2] == shard and HEX[algorithm].fullmatch(name) is not None
