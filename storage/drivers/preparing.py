"""What is done once before a tree is used, and the probe that shows it still works."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid

from storage.driver_errors import Unavailable
from storage.drivers.cached import is_local
from storage.drivers.locks import try_lock, unlock_and_close
from storage.drivers.posix import read_range, sync_directories, system_errors
from storage.drivers.tree import Tree

ABANDONED = 24 * 3600.0
"""Seconds after which a temporary file has nobody who still writes to it."""


def prepare(tree: Tree) -> None:
    """See `FilesystemDriver.prepare`. Any number of processes may do it at once."""
    with system_errors("prepare", tree.root):
        for directory in tree.own:
            os.makedirs(directory, exist_ok=True)
            sync_directories(_above(tree, directory))
        _require_one_mount(tree)
        _require_locks(tree)
        for entry in tree.entries(tree.temporary):
            with contextlib.suppress(FileNotFoundError):  # another process prepares as well
                if time.time() - tree.status(entry.path).st_mtime > ABANDONED:
                    os.unlink(entry.path)
    tree.local = is_local(tree.root)
    tree.prepared = True


def look(tree: Tree) -> None:
    """Instead of prepare(), where nothing may be written."""
    with system_errors("look at", tree.root):
        os.close(os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY))
    tree.local = is_local(tree.root)


def probe(tree: Tree) -> None:
    """Write, read and remove a file where nobody looks. Raises Unavailable or NoSpace."""
    path = f"{tree.temporary}/probe-{uuid.uuid4().hex}"
    expected = os.urandom(64)
    with system_errors("probe", path):
        tree.write(path, expected)
        descriptor, _ = tree.open(path)
        try:
            found = read_range(descriptor, 0, len(expected))
        finally:
            os.close(descriptor)
            os.unlink(path)
    if found != expected:
        raise Unavailable(f"probe {path}: the storage returned other bytes than were written")


def _above(tree: Tree, directory: str) -> list[str]:
    """The directories from that of `directory` up to that of the root."""
    found = [os.path.dirname(directory)]
    while found[-1] != tree.root:
        found.append(os.path.dirname(found[-1]))
    return [*found, os.path.dirname(tree.root)]


def _require_one_mount(tree: Tree) -> None:
    """That a temporary file can be renamed into every directory beside `tmp` and beside its parents.

    The file asked for does not exist, and the kernel compares the mounts before it looks for it. A
    comparison of device numbers would not tell two bind mounts apart.
    """
    name = uuid.uuid4().hex
    above = tree.temporary
    while above != tree.root:
        above = os.path.dirname(above)
        for entry in tree.entries(above):
            try:
                os.rename(f"{tree.temporary}/{name}", f"{entry.path}/{name}")
            except OSError as error:
                if error.errno != errno.EXDEV:
                    continue  # ENOENT is as it should be; into others, as lost+found, nothing goes
                raise Unavailable(
                    f"{entry.path} is on another mount than {tree.temporary}, and files are renamed "
                    f"from one to the other. Put all of {tree.root} on one mount."
                ) from error


def _require_locks(tree: Tree) -> None:
    path = f"{tree.locks}/probe-{uuid.uuid4().hex}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if not try_lock(descriptor):
            raise Unavailable(f"{path} is new, and yet its lock is held; see flock(2)")
    finally:
        unlock_and_close(descriptor)
        os.unlink(path)
