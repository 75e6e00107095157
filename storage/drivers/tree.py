"""Durable changes to a directory tree that other processes and other nodes change as well.

Four things hold wherever the tree is, also on NFS, CephFS and Gluster:

- A "no such file" is not believed before the nearest directory that exists was opened, because an NFS
  client answers it from memory for up to a minute; opening a directory makes it ask the server. The
  same is tried once after ESTALE.
- A file appears under its name by rename, after fsync. Then the directory that got the name is synced,
  and so is each directory in which a parent was made. A parent that another process has only just made
  needs no sync of ours: journals keep order, and on NFS mkdir is durable at once.
- Making parents and making the file is a loop, because somebody may remove an empty parent in between.
- A name that several nodes give to their files at once is nobody's fault on NFS either. What was opened
  may be gone on the server before it has been looked at: that is ESTALE, of open(2) and of fstat(2). And
  where this node has the old file open, its client first renames that to .nfsXXXX; whoever renames to
  the same name meanwhile is told ETXTBSY or EBUSY (nfs_rename, nfs_sillyrename). Both pass by themselves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
import time
import uuid
from collections.abc import Callable
from pathlib import PurePath
from typing import TypeVar

from storage.driver import check_key
from storage.driver_errors import InvalidKey, Unavailable
from storage.drivers.posix import sync_directories, write_all

T = TypeVar("T")

TRIES = 200
"""How often an empty parent may be removed under us before we give up: some tenths of a second."""

STALE_TRIES = 10
"""How often a file may be replaced under us between the look-up of its name and the look at it."""

_DOUBTFUL = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
_VANISHED = frozenset({errno.ENOENT, errno.ESTALE})
_MOVING = frozenset({errno.ETXTBSY, errno.EBUSY})


class Tree:
    """What is below `root`. Methods take absolute paths and raise OSError, save where they say more."""

    def __init__(self, root: str, temporary: str, locks: str) -> None:
        if not root.strip("/"):
            raise InvalidKey(
                "The root directory of the storage cannot be /; give it one of its own."
            )
        self.root = root
        self.temporary = f"{root}/{check_key(temporary)}"
        self.locks = f"{root}/{check_key(locks)}"
        self.own = (self.temporary, self.locks)  # never listed, never removed
        self.prepared = False
        self.local = False  # prepare() finds out
        self.above_own = frozenset(
            str(above) for own in self.own for above in PurePath(own).parents
        )
        self._within = tuple(f"{directory}/" for directory in self.own)

    def path(self, key: str) -> str:
        """Raises InvalidKey, also for a key within the driver's own directories."""
        path = f"{self.root}/{check_key(key)}"
        if f"{path}/".startswith(self._within):
            raise InvalidKey(f"{key} is in a directory that the driver keeps for itself")
        return path

    def again(self, attempt: Callable[[], T], path: str) -> T:
        """`attempt()`, a second time if the first may have failed by a stale memory of `path`.

        Once more for each new ESTALE: while another node removes the directory there may be several.
        """
        try:
            return attempt()
        except OSError as error:
            if error.errno not in _DOUBTFUL:
                raise
        for number in range(STALE_TRIES):
            if number > 2:
                _step_aside()
            self._refresh(os.path.dirname(path))
            try:
                return attempt()
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
        self._refresh(os.path.dirname(path))
        return attempt()

    def place(self, attempt: Callable[[], T], path: str) -> tuple[T, list[str]]:
        """`attempt()`, which makes a name at `path`, with its parents made where they are missing.

        Returns the directories that got a name and must be synced, too.
        """
        grown = [os.path.dirname(path)]
        for number in range(TRIES):
            try:
                return attempt(), grown
            except OSError as error:
                if error.errno in _MOVING:
                    _step_aside()
                    continue
                if error.errno not in _VANISHED:
                    raise
            if number > 10:
                _step_aside()
            grown += self._make(os.path.dirname(path))
        return attempt(), grown

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file, atomically and durably.

        After any failure the temporary file is dropped rather than synced again: a second fsync of a
        descriptor reports success for pages that the first one lost.
        """
        temporary = f"{self.temporary}/{uuid.uuid4().hex}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:
            raise self._unreachable() from None
        try:
            try:
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _, grown = self.place(lambda: os.rename(temporary, path), path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary)
            raise
        sync_directories(grown)

    def open(self, path: str) -> tuple[int, os.stat_result]:
        """A descriptor to read a file, and what it says of it: stat(2) may answer from a cache."""

        def attempt() -> tuple[int, os.stat_result]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                return descriptor, os.fstat(descriptor)
            except BaseException:
                os.close(descriptor)
                raise

        descriptor, status = self.again(attempt, path)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a file", path)
        return descriptor, status

    def status(self, path: str) -> os.stat_result:
        descriptor, status = self.open(path)
        os.close(descriptor)
        return status

    def unlink(self, path: str) -> None:
        self.again(lambda: os.unlink(path), path)

    def look_at_directory(self, path: str) -> None:
        """So that the next look at `path` is by the server's answer, where there is a server."""
        _opens(os.path.dirname(path))

    def entries(self, directory: str) -> list[os.DirEntry[str]]:
        """What is in a directory; nothing if there is none."""

        def scan() -> list[os.DirEntry[str]]:
            with os.scandir(directory) as entries:
                return [*entries]

        return self._listed(scan, directory)

    def names(self, directory: str) -> list[str]:
        """Of entries(), where nothing else is asked of them."""
        return self._listed(lambda: os.listdir(directory), directory)

    def _listed(self, listing: Callable[[], list[T]], directory: str) -> list[T]:
        try:
            return self.again(listing, directory)
        except (FileNotFoundError, NotADirectoryError):
            if directory == self.root:
                raise self._unreachable() from None
            return []

    def _refresh(self, directory: str) -> None:
        """Open the nearest directory that exists, at or above `directory`, then those below it.

        Raises FileNotFoundError or NotADirectoryError if there is no `directory` after that.
        """
        missing = []
        while not _opens(directory):
            if directory == self.root:
                raise self._unreachable()
            missing.append(directory)
            directory = os.path.dirname(directory)
        if directory == self.root:
            self._require_mounted()
        for below in reversed(missing):
            _open_and_close(below)

    def _make(self, directory: str) -> list[str]:
        """Make `directory` and its parents; return those that got a new name.

        It may be gone again on return: the caller tries what it wants, and comes back.
        """
        missing: list[str] = []
        grown: list[str] = []
        while not grown:
            if directory == self.root:
                raise self._unreachable()
            if os.path.dirname(directory) == self.root:
                self._require_mounted()
            try:
                os.mkdir(directory)
                grown.append(os.path.dirname(directory))
            except FileExistsError:
                break
            except OSError as error:
                if error.errno not in _VANISHED:
                    raise
                missing.append(directory)
                directory = os.path.dirname(directory)
        for below in reversed(missing):
            try:
                os.mkdir(below)
                grown.append(os.path.dirname(below))
            except FileExistsError:
                continue  # another process was faster
            except OSError as error:
                if error.errno not in _VANISHED:
                    raise
                break  # another process has removed its parent
        return grown

    def _require_mounted(self) -> None:
        """An empty mount point looks like a store that lost everything; it is not to be believed."""
        if self.prepared and not os.path.isdir(self.temporary):
            raise self._unreachable()

    def _unreachable(self) -> Unavailable:
        return Unavailable(
            f"The storage is not at {self.root} any more: {self.temporary} is gone. Mount it again; "
            "if the directory was removed, restart the registry."
        )


def _step_aside() -> None:
    """Out of step with whoever changes the same names."""
    time.sleep(random.uniform(0, 0.002))


def _open_and_close(directory: str) -> None:
    os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))


def _opens(directory: str) -> bool:
    try:
        _open_and_close(directory)
    except OSError as error:
        if error.errno not in _DOUBTFUL:
            raise
        return False
    return True
