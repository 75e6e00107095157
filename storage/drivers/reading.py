"""A file opened for reading, which outlives its name."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Final

from storage.driver import ObjectInfo
from storage.driver_errors import Unavailable
from storage.drivers.posix import read_range, system_errors, translate
from storage.drivers.tree import Tree

PAGE: Final = 4096


def read_page(tree: Tree, path: str, length: int) -> bytes:
    """A link or another small file of this machine, whose reads are short only at the end."""
    descriptor = tree.again(lambda: os.open(path, os.O_RDONLY), path)
    try:
        return os.read(descriptor, length)
    finally:
        os.close(descriptor)


def read_pages(
    tree: Tree, prefix: str, names: Iterable[str], leaf: str, length: int
) -> dict[str, bytes]:
    """As read_page() of each `<prefix>/<name>/<leaf>`, by the name; those that are absent are left out.

    The directory is looked up once: most of what a small read costs is finding the file.
    """
    found: dict[str, bytes] = {}
    directory = tree.path(prefix)
    try:
        base = tree.again(lambda: os.open(directory, os.O_RDONLY | os.O_DIRECTORY), directory)
    except (FileNotFoundError, NotADirectoryError):
        return found
    try:
        for name in names:
            try:
                descriptor = os.open(f"{name}/{leaf}", os.O_RDONLY, dir_fd=base)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                found[name] = os.read(descriptor, length)
            except IsADirectoryError:
                continue
            finally:
                os.close(descriptor)
    except OSError as error:
        raise translate(error, "read", f"{prefix}/{name}/{leaf}", reading=False) from error
    finally:
        os.close(base)
    return found


class Changed(Unavailable):
    """The name has another file by now, or the file was cut short: what was read does not fit together."""


class FileReader:
    """A `storage.driver.Reader`. Says what the file held when it was opened, though it may grow since."""

    def __init__(self, tree: Tree, key: str, path: str) -> None:
        self._tree = tree
        self._path = path
        self._descriptor, self._status = tree.open(path)
        self.info = ObjectInfo(key, self._status.st_size, self._status.st_mtime)

    def read_at(self, offset: int, length: int) -> bytes:
        """Raises Changed where the file ends before the size it had."""
        length = min(length, self.info.size - offset)
        if length <= 0:
            return b""
        with system_errors("read", self.info.key):
            try:
                data = read_range(self._descriptor, offset, length)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                self._reopen()
                data = read_range(self._descriptor, offset, length)
        if len(data) < length:
            raise Changed(
                f"read {self.info.key}: it ends at {offset + len(data)} of {self.info.size} bytes"
            )
        return data

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _reopen(self) -> None:
        """Under the same number, for those who know it. Raises Changed if the file is another."""
        descriptor, status = self._tree.open(self._path)
        try:
            same = (status.st_size, status.st_mtime_ns) == (
                self._status.st_size,
                self._status.st_mtime_ns,
            )
            if not same:
                raise Changed(f"read {self.info.key}: ESTALE, and it was replaced meanwhile")
            os.dup2(descriptor, self._descriptor, inheritable=False)
        finally:
            os.close(descriptor)
