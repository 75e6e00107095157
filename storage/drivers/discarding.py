"""Removal of files by renaming them into a directory of their batch, which anybody can take away.

When the directory has another name, a rename into it fails, however long ago it was asked for and
wherever: on one disk, and on a server that orders what its clients ask (NFS, CephFS, Gluster). So the
directory is named by its whole path each time: a descriptor of it would follow it to its new name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable

from storage.driver import Reader
from storage.driver_errors import ObjectNotFound, Void
from storage.drivers.posix import sync_directories, system_errors
from storage.drivers.reading import FileReader
from storage.drivers.tree import Tree

ENDED = ".ended"
LOOKS = 3


class _Taken(Exception):
    """A batch was ended or forgotten, or another process was faster."""


class TrashedFiles:
    """A `storage.driver.Discarder`."""

    def __init__(self, tree: Tree, directory: str) -> None:
        """`directory` is begun already, and never made here: one that was ended does not come back."""
        self._tree = tree
        self._directory = directory

    def discard(self, key: str) -> bool:
        path = self._tree.path(key)
        trashed = f"{self._directory}/{_name(key)}"
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


def recover(tree: Tree, trash: str, key: str, path: str, sound: Callable[[Reader], bool]) -> bool:
    """`trash` has the directories of all batches. Raises OSError, or what `sound` raises."""
    for _ in range(LOOKS):
        kept = [f"{entry.path}/{_name(key)}" for entry in tree.entries(trash)]
        for each in sorted(filter(os.path.exists, kept), reverse=True):
            try:
                if _is_sound(tree, key, each, sound):
                    os.utime(each)
                    _put_back(tree, each, path)
                    return True
            except (FileNotFoundError, _Taken):
                break  # look again
        else:
            return False
    return False


def _is_sound(tree: Tree, key: str, trashed: str, sound: Callable[[Reader], bool]) -> bool:
    reader = FileReader(tree, key, trashed)
    try:
        return sound(reader)
    finally:
        reader.close()


def _put_back(tree: Tree, trashed: str, path: str) -> None:
    def move() -> None:
        if not os.path.exists(trashed):
            raise _Taken
        os.rename(trashed, path)

    _, grown = tree.place(move, path)
    sync_directories([*grown, os.path.dirname(trashed)])


def _name(key: str) -> str:
    """Short and flat, so that the directory is all that a rename needs."""
    return hashlib.sha256(key.encode()).hexdigest()
