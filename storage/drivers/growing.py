"""The writer of a plain file that grows: Distribution's `_uploads/<uuid>/data`.

One writer at a time, by a lock on the file itself. Bytes go to explicit offsets, since O_APPEND on NFS
writes where this node believes the end to be, over the bytes of another. The size is that of a file
opened after the lock was taken, which is the one size that is never from a cache.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from storage.driver_errors import Busy, Conflict, ObjectNotFound, Unavailable
from storage.drivers.locks import try_lock, unlock_and_close
from storage.drivers.posix import sync_directories, system_errors
from storage.drivers.tree import TRIES, Tree

_BATCH = os.sysconf("SC_IOV_MAX")


class GrowingFile:
    """A `storage.driver.Writer`."""

    def __init__(
        self, tree: Tree, key: str, path: str, descriptor: int, size: int, unsynced: list[str]
    ) -> None:
        self._tree = tree
        self._key = key
        self._path = path
        self._descriptor = descriptor
        self._size = size
        self._appended = False
        self._durable = 0
        self._unsynced = unsynced  # directories that hold a name we may have made
        self._spoiled = False

    @property
    def size(self) -> int:
        return self._size

    @property
    def state(self) -> str:
        return ""

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        self._require_usable()
        with system_errors("append to", self._key):
            for start in range(0, len(chunks), _BATCH):
                self._append([memoryview(chunk) for chunk in chunks[start : start + _BATCH]])

    def _append(self, views: list[memoryview]) -> None:
        index = 0
        while True:
            while index < len(views) and not views[index]:
                index += 1
            if index == len(views):
                return
            written = os.pwritev(self._descriptor, views[index:], self._size)
            if not written:
                raise OSError(errno.EIO, "nothing was written")
            self._appended = True
            self._size += written
            while written:
                step = min(written, len(views[index]))
                views[index] = views[index][step:]
                written -= step
                if not views[index]:
                    index += 1

    def sync(self) -> None:
        self._require_usable()
        with system_errors("sync", self._key):
            try:
                os.fdatasync(self._descriptor)
                sync_directories(self._unsynced)
            except OSError:
                self._spoil()
                raise
        self._unsynced = []
        self._appended = False
        self._durable = self._size

    def publish(self, key: str) -> None:
        self._require_usable()
        if self._appended:
            self.sync()
        target = self._tree.path(key)
        with system_errors(f"publish {self._key} as", key):
            if named_size(self._tree, self._path, self._descriptor) is None:
                raise ObjectNotFound(f"publish {self._key}: it was deleted meanwhile")
            if self._published(target):
                # Whoever put it there may not have synced its name yet, and we answer for it.
                grown = [os.path.dirname(target)]
                os.unlink(self._path)
            else:
                os.utime(self._descriptor)
                _, grown = self._tree.place(lambda: os.rename(self._path, target), target)
            sync_directories(grown)
        self.close()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # close promises nothing, and sync has told
                unlock_and_close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _published(self, target: str) -> bool:
        """Whether the same object is there already; one of another size is damaged.

        Where replacing a file disturbs no reader, it is not asked: the bytes at hand are verified, and
        those on the disk may have rotted. On a network filesystem readers elsewhere would find nothing.
        """
        if self._tree.local:
            return False
        try:
            return self._tree.status(target).st_size == self._size
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _require_usable(self) -> None:
        if self._spoiled or self._descriptor < 0:
            why = "an earlier sync failed" if self._spoiled else "it is closed"
            raise Unavailable(f"the writer of {self._key} cannot go on: {why}")

    def _spoil(self) -> None:
        """Cut the file back to what is known to be durable, as far as to nothing.

        After a failed fsync the kernel may have dropped pages and yet call the next fsync a success,
        so bytes of unknown fate must be sent again.
        """
        self._spoiled = True
        with contextlib.suppress(OSError):  # the failed sync is the one to tell
            os.ftruncate(self._descriptor, self._durable)
            self._size = self._durable


def open_growing_file(tree: Tree, key: str, *, create: bool) -> GrowingFile:
    """Raises what `Driver.writer` does."""
    path = tree.path(key)
    flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)

    def attempt() -> int:
        return os.open(path, flags, 0o666)

    with system_errors("write to", key, reading=not create):
        for _ in range(TRIES):
            try:
                if create:
                    descriptor, unsynced = tree.place(attempt, path)
                else:
                    descriptor, unsynced = tree.again(attempt, path), [os.path.dirname(path)]
            except FileExistsError:
                raise Conflict(f"write to {key}: the object exists already") from None
            try:
                if not try_lock(descriptor):
                    raise Busy(f"write to {key}: another writer has it")
                size = named_size(tree, path, descriptor)
                if size is not None:
                    return GrowingFile(tree, key, path, descriptor, size, unsynced)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
    raise Unavailable(f"write to {key}: it is replaced faster than it can be locked")


def named_size(tree: Tree, path: str, descriptor: int) -> int | None:
    """The size of the file at `path`, as it is now; None if that is not the one opened.

    An NFS client opens a file that it knows without asking what it is called by now: as an upload, it
    would hand out the blob that another node has made of it.
    """
    if not tree.local:
        tree.look_at_directory(path)
    try:
        there = tree.status(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return there.st_size if os.path.samestat(there, os.fstat(descriptor)) else None
