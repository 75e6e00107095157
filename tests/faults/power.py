"""What a disk holds after the power fails, as far as the writer has made sure of it.

`Power` watches the system calls that change a tree and keeps, beside what every process sees, what
fsync(2) has promised: the bytes of a file as they were at its last fsync or fdatasync, and the names in a
directory as they were at the directory's. Nothing else is promised, in no order. A cut of the power may
keep more than that, for each directory and each file by itself, so there are several ways to fail:

    PROMISED    nothing but what was promised
    NAMES       every name, but only those bytes that were promised
    BYTES       only the promised names, but every byte
    a chooser   by chance
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Kept = Callable[[str], bool]
"""Whether what was not promised was kept all the same: told "names" or "bytes", for each once."""

Tree = dict[str, bytes]
"""Files by their path below the root."""


def PROMISED(kind: str) -> bool:
    return False


def NAMES(kind: str) -> bool:
    return kind == "names"


def BYTES(kind: str) -> bool:
    return kind == "bytes"


@dataclass(eq=False)
class _File:
    descriptor: int  # ours, to read what it holds
    promised: bytes = b""

    def now(self) -> bytes:
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)


@dataclass(eq=False)
class _Directory:
    now: dict[str, _File | _Directory] = field(default_factory=dict)
    promised: dict[str, _File | _Directory] = field(default_factory=dict)


class Power:
    """Watch `root`, which must be empty, from now on. Use it through watching()."""

    def __init__(self, root: Path) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called after each system call that changed something, in the thread that made it."""
        self._root = str(root)
        self._top = _Directory()
        self._opened: dict[int, _File | _Directory] = {}
        self._files: list[_File] = []
        self._lock = threading.RLock()
        self._open, self._close, self._fsync = os.open, os.close, os.fsync

    def cut(self, kept: Kept = PROMISED) -> Tree:
        """What would be on the disk if the power failed now."""
        with self._lock:
            return dict(_left(self._top, "", kept))

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(os, "open", self._on_open)
        patch.setattr(os, "close", self._on_close)
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, self._on_sync)
        for name in ("write", "pwritev", "ftruncate"):
            patch.setattr(os, name, self._changing(getattr(os, name), lambda *_: None))
        patch.setattr(os, "mkdir", self._changing(os.mkdir, self._made))
        patch.setattr(os, "rename", self._changing(os.rename, self._renamed))
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, self._changing(getattr(os, name), self._removed))

    def release(self) -> None:
        for file in self._files:
            os.close(file.descriptor)

    def _on_open(self, path: Any, flags: int, *args: Any, **more: Any) -> int:
        with self._lock:
            descriptor = self._open(path, flags, *args, **more)
            if not self._within(path):
                return descriptor
            directory, name = self._place(path)
            node = directory.now.get(name) if name else self._top
            if node is None:
                node = directory.now[name] = _File(self._open(path, os.O_RDONLY))
                self._files.append(node)
                self.on_change()
            self._opened[descriptor] = node
            return descriptor

    def _on_close(self, descriptor: int) -> None:
        with self._lock:
            self._opened.pop(descriptor, None)
            self._close(descriptor)

    def _on_sync(self, descriptor: int) -> None:
        with self._lock:
            node = self._opened.get(descriptor)
            if isinstance(node, _Directory):
                node.promised = dict(node.now)
            elif node is not None:
                node.promised = node.now()
            self.on_change()

    def _changing(self, real: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            ours = isinstance(args[0], int) or self._within(args[0])
            if not ours:
                return real(*args, **more)
            with self._lock:
                result = real(*args, **more)
                note(*args)
                self.on_change()
            return result

        return call

    def _made(self, path: str, *mode: int) -> None:
        directory, name = self._place(path)
        directory.now[name] = _Directory()

    def _renamed(self, old: str, new: str) -> None:
        directory, name = self._place(old)
        node = directory.now.pop(name)
        directory, name = self._place(new)
        directory.now[name] = node

    def _removed(self, path: str) -> None:
        directory, name = self._place(path)
        del directory.now[name]

    def _within(self, path: object) -> bool:
        return isinstance(path, str) and (path == self._root or path.startswith(f"{self._root}/"))

    def _place(self, path: str) -> tuple[_Directory, str]:
        """The directory of a path, which exists, and its last name; "" for the root's."""
        *above, name = path[len(self._root) :].lstrip("/").split("/")
        directory = self._top
        for each in above:
            below = directory.now[each]
            assert isinstance(below, _Directory), path
            directory = below
        return directory, name


def _left(directory: _Directory, above: str, kept: Kept) -> Iterator[tuple[str, bytes]]:
    names = directory.now if kept("names") else directory.promised
    for name, node in names.items():
        if isinstance(node, _Directory):
            yield from _left(node, f"{above}{name}/", kept)
        else:
            yield f"{above}{name}", node.now() if kept("bytes") else node.promised


def restore(tree: Tree, root: Path) -> None:
    """Make `root` a directory with these files."""
    root.mkdir(parents=True)
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextmanager
def watching(root: Path) -> Iterator[Power]:
    """`root` is made, and what is done to it by this process is watched."""
    root.mkdir(parents=True)
    power = Power(root)
    with pytest.MonkeyPatch.context() as patch:
        power.patch(patch)
        yield power
    power.release()
