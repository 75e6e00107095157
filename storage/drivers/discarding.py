"""Removal of files by renaming them into a directory of their batch, which anybody can take away.

When the directory has another name, a rename into it fails, however long ago it was asked for and
wherever: on one disk, and on a server that orders what its clients ask (NFS, CephFS, Gluster). So the
directory is named by its whole path each time: a descriptor of it would follow it to its new name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

from storage.driver import ObjectNotFound, Void
from storage.drivers.posix import sync_directories, system_errors
from storage.drivers.tree import Tree

ENDED = ".ended"


class TrashedFiles:
    """A `storage.driver.Discarder`."""

    def __init__(self, tree: Tree, directory: str) -> None:
        """`directory` is begun already, and never made here: one that was ended does not come back."""
        self._tree = tree
        self._directory = directory

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


def begin(tree: Tree, directory: str) -> None:
    """Raises OSError, also if it was begun before."""
    _, grown = tree.place(lambda: os.mkdir(directory), directory)
    sync_directories(grown)


def end(directory: str) -> None:
    """Raises OSError. Idempotent."""
    try:
        os.rename(directory, directory + ENDED)
    except FileNotFoundError:
        return
    sync_directories([os.path.dirname(directory)])
