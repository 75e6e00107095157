"""Objects in the memory of one process, for tests and trials: other workers do not see them.

Growing objects are kept apart from finished ones, as object storage does it, so that a caller who
looks for the one among the other is found out here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.driver import Anything, Child, Leaf, ObjectInfo, Reader, check_key
from storage.driver_errors import Busy, Conflict, ObjectNotFound, Unavailable, Void
from storage.drivers.plain import (
    any_listed,
    leaves_by_walking,
    names_by_listing,
    read_each_leaf,
)


@dataclass(frozen=True, slots=True)
class _Stored:
    data: bytes
    modified: float


@dataclass(slots=True, eq=False)
class _Growing:
    data: bytearray
    modified: float
    taken: bool = True


class MemoryReader:
    """A `storage.driver.Reader`."""

    def __init__(self, key: str, stored: _Stored) -> None:
        self.info = ObjectInfo(key, len(stored.data), stored.modified)
        self._data = stored.data
        self._closed = False

    def read_at(self, offset: int, length: int) -> bytes:
        if self._closed:
            raise Unavailable(f"read {self.info.key}: the reader is closed")
        return self._data[offset : offset + length]

    def fileno(self) -> None:
        return None

    def close(self) -> None:
        self._closed = True


class MemoryWriter:
    """A `storage.driver.Writer`."""

    def __init__(self, driver: MemoryDriver, key: str, growing: _Growing) -> None:
        self._driver = driver
        self._key = key
        self._growing = growing
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._growing.data)

    @property
    def state(self) -> str:
        return ""

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        self._require_open()
        with self._driver.lock:
            for chunk in chunks:
                self._growing.data += chunk
            self._growing.modified = time.time()

    def sync(self) -> None:
        self._require_open()

    def publish(self, key: str) -> None:
        self._require_open()
        self._driver.publish(self._key, self._growing, check_key(key))
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._growing.taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the writer of {self._key} cannot go on: it is closed")


@dataclass(frozen=True, slots=True)
class MemoryDiscarder:
    """A `storage.driver.Discarder`."""

    _driver: MemoryDriver
    _batch: str

    def discard(self, key: str) -> bool:
        return self._driver.discard(self._batch, key)


class MemoryDriver:
    """A `storage.driver.Driver`. Nothing survives the process."""

    name = "inmemory"
    remote = False

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._objects: dict[str, _Stored] = {}
        self._ended: set[str] = set()
        self._growing: dict[str, _Growing] = {}

    def stat(self, key: str) -> ObjectInfo:
        stored = self._find(key)
        return ObjectInfo(key, len(stored.data), stored.modified)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        data = self._find(key).data
        return data[offset:] if length is None else data[offset : offset + length]

    def open(self, key: str) -> MemoryReader:
        return MemoryReader(key, self._find(key))

    def write(self, key: str, data: bytes) -> None:
        check_key(key)
        with self.lock:
            self._objects[key] = _Stored(bytes(data), time.time())

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        check_key(key)
        with self.lock:
            stored = self._objects.get(key)
            current = None if stored is None else stored.data
            if not isinstance(expected, Anything) and current != expected:
                raise Conflict(f"swap {key}: it holds another value than expected")
            if data is not None:
                self._objects[key] = _Stored(bytes(data), time.time())
            else:
                self._objects.pop(key, None)

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> MemoryWriter:
        check_key(key)
        with self.lock:
            growing = self._growing.get(key)
            if create:
                if growing is not None or key in self._objects:
                    raise Conflict(f"write to {key}: the object exists already")
                growing = self._growing[key] = _Growing(bytearray(), time.time())
            elif growing is None:
                raise _absent("write to", key)
            elif growing.taken:
                raise Busy(f"write to {key}: another writer has it")
            growing.taken = True
        return MemoryWriter(self, key, growing)

    def publish(self, staging: str, growing: _Growing, key: str) -> None:
        """For its writers only."""
        with self.lock:
            if self._growing.get(staging) is not growing:
                raise ObjectNotFound(f"publish {staging}: it was deleted meanwhile")
            there = self._objects.get(key)
            if there is None or len(there.data) != len(growing.data):
                self._objects[key] = _Stored(bytes(growing.data), time.time())
            del self._growing[staging]

    def stat_growing(self, key: str) -> ObjectInfo:
        growing = self._find_growing(key)
        return ObjectInfo(key, len(growing.data), growing.modified)

    def open_growing(self, key: str) -> MemoryReader:
        growing = self._find_growing(key)
        with self.lock:
            return MemoryReader(key, _Stored(bytes(growing.data), growing.modified))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        start = _below(prefix)
        found: dict[str, bool] = {}
        with self.lock:
            for key in self._objects:
                if key.startswith(start):
                    name, slash, _ = key[len(start) :].partition("/")
                    found[name] = found.get(name, False) or bool(slash)
        names = sorted(found, key=lambda name: f"{name}/")
        return iter([Child(n, found[n]) for n in names if not after or f"{n}/" > f"{after}/"])

    def has_children(self, prefix: str) -> bool:
        return any_listed(self, prefix)

    def edition(self, prefix: str) -> None:
        """Nothing tells."""

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        start = _below(prefix)
        with self.lock:
            keys = [key for key in self._objects if key.startswith(start) and key > after]
        return self._walk(keys)

    def _walk(self, keys: Sequence[str]) -> Iterator[ObjectInfo]:
        for key in keys:
            stored = self._objects.get(key)
            if stored is not None:
                yield ObjectInfo(key, len(stored.data), stored.modified)

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        return leaves_by_walking(self, prefix, leaf)

    def names(self, prefix: str) -> Sequence[str]:
        return names_by_listing(self, prefix)

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        return read_each_leaf(self, prefix, names, leaf, length=length)

    def delete(self, key: str) -> None:
        with self.lock:
            if self._objects.pop(check_key(key), None) is None:
                raise _absent("delete", key)

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self.lock:
                self._objects.pop(check_key(key), None)

    def delete_tree(self, prefix: str) -> None:
        start = f"{check_key(prefix)}/"
        with self.lock:
            for key in [key for key in self._objects if key.startswith(start)]:
                del self._objects[key]
            for key in [key for key in self._growing if key.startswith(start)]:
                del self._growing[key]

    discards_expire = False

    def begin_discards(self, batch: str) -> None:
        check_key(batch)

    def discarder(self, batch: str, *, since: float, lifetime: float) -> MemoryDiscarder:
        return MemoryDiscarder(self, check_key(batch))

    def discard(self, batch: str, key: str) -> bool:
        """For its discarders only."""
        with self.lock:
            if batch in self._ended:
                raise Void(f"discard {key}: the batch {batch} is over")
            return self._objects.pop(check_key(key), None) is not None

    def end_discards(self, batch: str) -> None:
        with self.lock:
            self._ended.add(batch)

    def forget_discards(self, batch: str) -> None:
        self.end_discards(batch)

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        check_key(key)
        return False

    def abort_unfinished(self, prefix: str, *, before: float) -> int:
        return 0

    def prune(self, prefix: str) -> None:
        check_key(prefix)

    def presign(self, key: str, *, lifetime: int, patient: bool = True) -> str | None:
        check_key(key)
        return None

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    def immediate(self) -> None:
        return None

    def close(self) -> None:
        """Nothing is left to do."""

    def check(self) -> None:
        """Memory is always there."""

    def _find(self, key: str) -> _Stored:
        stored = self._objects.get(check_key(key))
        if stored is None:
            raise _absent("read", key)
        return stored

    def _find_growing(self, key: str) -> _Growing:
        growing = self._growing.get(check_key(key))
        if growing is None:
            raise _absent("read", key)
        return growing


def _absent(operation: str, key: str) -> ObjectNotFound:
    return ObjectNotFound(f"{operation} {key}: there is no such object")


def _below(prefix: str) -> str:
    return f"{check_key(prefix)}/" if prefix else ""
