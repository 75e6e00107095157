"""Removal of files by renaming them into a directory of their batch, which anybody can take away.

When the directory has another name, a rename into it fails, however long ago it was asked for and
wherever: on one disk, and on a server that orders what its clients ask (NFS, CephFS, Gluster). So the
directory is named by its whole path each time: a descriptor of it would follow it to its new name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os

from storage.driver import ObjectNotFound, Void
from storage.drivers.posix import sync_directories, system_errors
from storage.drivers.tree import Tree

ENDED = ".ended"


class TrashedFiles:
    """A `storage.driver.Discarder`."""

    def __init__(self, tree: Tree, directory: str) -> None:
        """Raises OSError. `directory` is new, and made once: one that was ended never comes back."""
        self._tree = tree
        self._directory = directory
        if not os.path.isdir(directory + ENDED):
            with contextlib.suppress(FileExistsError):
                _, grown = tree.place(lambda: os.mkdir(directory), directory)
                sync_directories(grown)

    def discard(self, key: str) -> bool:
        path = self._tree.path(key)
        # Names are short and flat, so that the directory is all that a rename needs.
        trashed = f"{self._directory}/{hashlib.sha256(key.encode()).hexdigest()}"
        try:
            with system_errors("discard", key, reading=True):
                self._tree.again(lambda: os.rename(path, trashed), path)
        except ObjectNotFound:
            if not os.path.isdir(self._directory):
                raise Void(f"discard {key}: {self._directory} was ended") from None
            return False
        with contextlib.suppress(
            OSError
        ):  # empty parents are a courtesy; a push may need them again
            os.rmdir(os.path.dirname(path))
        return True


def end(directory: str) -> None:
    """Raises OSError. Idempotent."""
    try:
        os.rename(directory, directory + ENDED)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        # It was ended before and made again: what is in this one is trash as well.
        os.rename(directory, f"{directory}{ENDED}-{os.urandom(4).hex()}")
    sync_directories([os.path.dirname(directory)])
