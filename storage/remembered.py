"""A short memory in front of a remote storage, for pulls alone.

Where each question is a request to another machine, an image that a hundred nodes pull at once would ask
the same few questions a hundred times. What is remembered is that a link or a blob is there: never that
one is absent, and a tag only if the operator allows it. Who writes, or decides whether a push may rely on
something, asks the storage itself. Where a pull would ask for many links of one repository, a listing tells
of all of them at once (`storage/listed_links.py`).

How stale an answer can be is `Staleness`: so long can something that another node has deleted still be
pulled through this one. What this process deletes it forgets at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage import layout
from storage.cache import Cache
from storage.driver import Anything, Child, Discarder, Driver, Leaf, ObjectInfo, Reader, Writer
from storage.driver_errors import WouldBlock
from storage.drivers.plain import names_by_listing, read_each_leaf
from storage.listed_links import ListedLinks

REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Staleness:
    """Seconds for which something found is believed to be there still; 0 asks every time."""

    links: float = 30.0
    """Of layers and revisions."""
    blobs: float = 600.0
    """Of what links name. A link that is there has its blob: the collector removes the blob after it."""
    tags: float = 0.0
    lag: float = 0.0
    """After this, what was deleted is in no listing any more. If it is as much as `links`, links are never
    listed for pulls."""

    def of(self, key: str) -> float:
        if key.startswith(layout.BLOBS):
            return self.blobs
        if "/_layers/" in key or "/_manifests/revisions/" in key:
            return self.links
        return self.tags if key.endswith("/current/link") else 0.0


class Memory:
    """What was found, and until when it is believed. Thread-safe.

    A note that was begun before a change and is made after it can bring back what is gone, so each is
    believed from the time of its question and for no longer than the staleness.
    """

    def __init__(self, staleness: Staleness, clock: Callable[[], float] = time.monotonic) -> None:
        self._staleness = staleness
        self._clock = clock
        self._read: Cache[str, tuple[float, bytes]] = Cache(REMEMBERED)
        self._stat: Cache[str, tuple[float, ObjectInfo]] = Cache(REMEMBERED)
        self._listed = ListedLinks(staleness.links - staleness.lag, clock)

    def read(self, key: str) -> bytes | None:
        found = self._read.get(key)
        if found is not None:
            until, content = found
            if until > self._clock() and not self._listed.denies(key, until):
                return content
        return self._listed.content(key)

    def stat(self, key: str) -> ObjectInfo | None:
        found = self._stat.get(key)
        return found[1] if found is not None and found[0] > self._clock() else None

    def learn(self, key: str, driver: Driver) -> bool:
        """When read() does not know the key: whether it may do so now, from a listing by the driver."""
        return self._listed.learn(key, driver)

    def has_read(self, key: str, content: bytes, asked: float) -> None:
        """Of blobs only the sizes are kept: their bytes may be many, or wrong, which a new read mends."""
        if key.startswith(layout.BLOBS):
            return
        if seconds := self._staleness.of(key):
            self._read.put(key, (asked + seconds, content))

    def has_found(self, info: ObjectInfo, asked: float) -> None:
        if seconds := self._staleness.of(info.key):
            self._stat.put(info.key, (asked + seconds, info))

    @contextmanager
    def forgetting(self, *keys: str, below: str = "") -> Iterator[None]:
        """Around a change of the keys: also what is noted while it goes on is forgotten."""
        try:
            yield
        finally:
            self._listed.forget(keys, below)
            for cache in (self._read, self._stat):
                for key in keys:
                    cache.drop(key)
                if below:
                    for key in cache.entries():
                        if key.startswith(f"{below}/"):
                            cache.drop(key)

    def now(self) -> float:
        return self._clock()


class RememberingDriver:
    """A driver that notes what is found. It answers from the storage itself; its views do not.

    Everything but read() and stat() is the inner driver's; what changes a key also forgets it.
    """

    def __init__(self, inner: Driver, memory: Memory) -> None:
        self._inner = inner
        self._memory = memory

    def lookups(self) -> Driver:
        """A view that answers from memory what is there, and asks for the rest."""
        return _Lookups(self._inner, self._memory)

    def immediate(self) -> Driver:
        return _Immediate(self._inner, self._memory)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        asked = self._memory.now()
        content = self._inner.read(key, offset=offset, length=length)
        if offset == 0 and (length is None or len(content) < length):
            self._memory.has_read(key, content, asked)
        return content

    def stat(self, key: str) -> ObjectInfo:
        asked = self._memory.now()
        info = self._inner.stat(key)
        self._memory.has_found(info, asked)
        return info

    def write(self, key: str, data: bytes) -> None:
        with self._memory.forgetting(key):
            self._inner.write(key, data)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        with self._memory.forgetting(key):
            self._inner.swap(key, data, expected=expected)

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        return self._inner.leaves(prefix, leaf)

    def names(self, prefix: str) -> Sequence[str]:
        return names_by_listing(self, prefix)

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        return read_each_leaf(self, prefix, names, leaf, length=length)

    def delete(self, key: str) -> None:
        with self._memory.forgetting(key):
            self._inner.delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        with self._memory.forgetting(*listed):
            self._inner.delete_many(listed)

    def delete_tree(self, prefix: str) -> None:
        with self._memory.forgetting(below=prefix):
            self._inner.delete_tree(prefix)

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def remote(self) -> bool:
        return self._inner.remote

    def open(self, key: str) -> Reader:
        return self._inner.open(key)

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> Writer:
        return self._inner.writer(key, create=create, state=state, final=final)

    def stat_growing(self, key: str) -> ObjectInfo:
        return self._inner.stat_growing(key)

    def open_growing(self, key: str) -> Reader:
        return self._inner.open_growing(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        return self._inner.list(prefix, after=after)

    def has_children(self, prefix: str) -> bool:
        return self._inner.has_children(prefix)

    def edition(self, prefix: str) -> Hashable | None:
        return self._inner.edition(prefix)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return self._inner.walk(prefix, after=after)

    @property
    def discards_expire(self) -> bool:
        return self._inner.discards_expire

    def begin_discards(self, batch: str) -> None:
        self._inner.begin_discards(batch)

    def discarder(self, batch: str, *, since: float, lifetime: float) -> Discarder:
        return self._inner.discarder(batch, since=since, lifetime=lifetime)

    def end_discards(self, batch: str) -> None:
        self._inner.end_discards(batch)

    def forget_discards(self, batch: str) -> None:
        self._inner.forget_discards(batch)

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        return self._inner.recover(key, sound)

    def abort_unfinished(self, prefix: str, *, before: float) -> int:
        return self._inner.abort_unfinished(prefix, before=before)

    def prune(self, prefix: str) -> None:
        self._inner.prune(prefix)

    def presign(self, key: str, *, lifetime: int, patient: bool = True) -> str | None:
        return self._inner.presign(key, lifetime=lifetime, patient=patient)

    def local_path(self, key: str) -> Path | None:
        return self._inner.local_path(key)

    def close(self) -> None:
        self._inner.close()

    def check(self) -> None:
        self._inner.check()


class _Lookups(RememberingDriver):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        content = self._memory.read(key)
        if content is None and self._memory.learn(key, self._inner):
            content = self._memory.read(key)
        if content is None:
            return super().read(key, offset=offset, length=length)
        return _part(content, offset, length)

    def stat(self, key: str) -> ObjectInfo:
        return self._memory.stat(key) or super().stat(key)


class _Immediate(_Lookups):
    """What is in memory, or WouldBlock."""

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        content = self._memory.read(key)
        if content is None:
            raise WouldBlock(key)
        return _part(content, offset, length)

    def stat(self, key: str) -> ObjectInfo:
        info = self._memory.stat(key)
        if info is None:
            raise WouldBlock(key)
        return info

    def open(self, key: str) -> Reader:
        raise WouldBlock(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        raise WouldBlock(prefix)

    def has_children(self, prefix: str) -> bool:
        raise WouldBlock(prefix)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        raise WouldBlock(prefix)

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> Writer:
        raise WouldBlock(key)

    def write(self, key: str, data: bytes) -> None:
        raise WouldBlock(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        raise WouldBlock("delete_many")


def _part(content: bytes, offset: int, length: int | None) -> bytes:
    return content[offset : None if length is None else offset + length]
