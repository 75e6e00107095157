"""A remote storage without the network: what the store does differently there, and what it asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from storage.driver import Child, ObjectInfo
from storage.drivers.memory import MemoryDriver


class RemoteMemory(MemoryDriver):
    """Counts what is asked of it. It is remote in name only, so growing objects need no state."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    remote = True

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        self.asked["read"] += 1
        return super().read(key, offset=offset, length=length)

    def stat(self, key: str) -> ObjectInfo:
        self.asked["stat"] += 1
        return super().stat(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        self.asked["list"] += 1
        return super().list(prefix, after=after)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        self.asked["walk"] += 1
        return super().walk(prefix, after=after)

    def write(self, key: str, data: bytes) -> None:
        self.asked["write"] += 1
        super().write(key, data)
