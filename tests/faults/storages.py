"""Storages that outlive the processes which use them, and can be copied as they stand."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Protocol, Self

from storage.driver import Driver
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.growing import GrowingFile
from storage.drivers.memory import MemoryDriver
from storage.drivers.reading import FileReader
from tests.support.tree import check_tree


class Storage(Protocol):
    def open(self) -> Driver:
        """As a new process sees it."""

    def abandon(self) -> None:
        """What the kernel does when a process dies: its descriptors are closed, its locks free."""

    def copy(self, number: int) -> Self: ...

    def discard(self) -> None: ...

    def problems(self, removed: Collection[str] = ()) -> list[str]:
        """Those of the tree at rest, as check_tree."""


class OnDisk:
    def __init__(self, directory: Path) -> None:
        self.root = directory / "tree"
        self._directory = directory
        self._held: list[FileReader | GrowingFile] = []

    def open(self) -> Driver:
        driver = _Keeping(self.root, self._held)
        driver.prepare()
        return driver

    def abandon(self) -> None:
        for each in self._held:
            each.close()
        self._held.clear()

    def copy(self, number: int) -> OnDisk:
        copied = OnDisk(self._directory / str(number))
        shutil.copytree(self.root, copied.root)
        return copied

    def discard(self) -> None:
        self.abandon()
        shutil.rmtree(self._directory)

    def problems(self, removed: Collection[str] = ()) -> list[str]:
        return check_tree(self.root, removed=removed)


class _Keeping(FilesystemDriver):
    """Notes what it has opened, so that it can be closed for a process that died."""

    def __init__(self, root: Path, held: list[FileReader | GrowingFile]) -> None:
        super().__init__(root)
        self._held = held

    def open(self, key: str) -> FileReader:
        reader = super().open(key)
        self._held.append(reader)
        return reader

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> GrowingFile:
        writer = super().writer(key, create=create, state=state, final=final)
        self._held.append(writer)
        return writer


class InMemory:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._driver = MemoryDriver()

    def open(self) -> Driver:
        return self._driver

    def abandon(self) -> None:
        for growing in self._driver._growing.values():
            growing.taken = False

    def copy(self, number: int) -> InMemory:
        copied = InMemory(self._directory / str(number))
        copied._driver._objects = dict(self._driver._objects)
        copied._driver._growing = copy.deepcopy(self._driver._growing)
        return copied

    def discard(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def problems(self, removed: Collection[str] = ()) -> list[str]:
        """Those of a directory with the same objects."""
        for info in self._driver.walk(""):
            path = self._directory / info.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._driver.read(info.key))
        found = check_tree(self._directory, removed=removed)
        self.discard()
        return found
