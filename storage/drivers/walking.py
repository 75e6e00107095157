"""Listing and removing what is below a directory of a `Tree`.

Nothing here trusts that what was listed is still there. Names that are nobody's objects are passed over
in lists, yet removed with their directory: a file that NFS or FUSE keeps while somebody has it open, one
that Distribution was writing when it died, and what desktop systems leave behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

from storage.driver import Child, Leaf, ObjectInfo
from storage.drivers.posix import sync_directories, system_errors
from storage.drivers.tree import Tree

_COMPONENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_HELD_OPEN = re.compile(r"\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+", re.ASCII)
_LITTER = re.compile(
    rf"{_HELD_OPEN.pattern}|\.DS_Store|\._.*"
    r"|.+\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\.tmp",
    re.ASCII,
)
_SECOND: Final = 1_000_000_000
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})
_IN_USE = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})


def children(tree: Tree, directory: str) -> list[Child]:
    entries = [(entry, entry.is_dir()) for entry in tree.entries(directory)]
    return [
        Child(entry.name, is_directory)
        for entry, is_directory in entries
        if _has_key(tree, entry, is_directory=is_directory)
    ]


def has_children(tree: Tree, directory: str) -> bool:
    """Each directory in it is a link to it, where links are counted: that saves opening it.

    Not where a server is behind, whose count may be old, nor above what is never listed.
    """
    if tree.local and directory not in tree.above_own:
        try:
            if os.stat(directory).st_nlink > 2:
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
    return bool(children(tree, directory))


def edition(directory: str) -> tuple[int, int, int] | None:
    """By the time of its last change, which nobody can set: only where no server is behind."""
    try:
        status = os.stat(directory)
    except OSError:
        return None
    changed = status.st_ctime_ns
    # The kernel's clock ticks every 10 ms at the latest, an old filesystem's every second.
    tick = _SECOND // 50 if changed % _SECOND else _SECOND
    if time.time_ns() - changed < 2 * tick:
        return None
    return status.st_dev, status.st_ino, changed


def walk(tree: Tree, directory: str, prefix: str) -> Iterator[ObjectInfo]:
    """Follows symbolic links: a repository that was moved aside by one is still in use.

    Sizes and times come from the listing, so those of a file that grows may be seconds old.
    """
    pending = [directory]
    while pending:
        found = []
        above = pending.pop()
        with system_errors("walk", prefix):
            for entry in tree.entries(above):
                is_directory = entry.is_dir()
                if not _has_key(tree, entry, is_directory=is_directory):
                    continue
                if is_directory:
                    pending.append(entry.path)
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    key = entry.path[len(tree.root) + 1 :]
                    found.append(ObjectInfo(key, status.st_size, status.st_mtime))
        yield from found


def leaves(tree: Tree, directory: str, prefix: str, leaf: str) -> list[Leaf]:
    """Asks for each file by its name: only where no server is behind, whose answers may be old."""
    found = []
    with system_errors("walk", prefix):
        for name in tree.names(directory):
            if not _COMPONENT.fullmatch(name):
                continue
            try:
                status = os.stat(f"{directory}/{name}/{leaf}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISREG(status.st_mode):
                found.append(Leaf(name, status.st_size, status.st_mtime))
    return found


def remove(tree: Tree, directory: str) -> None:
    """Remove a directory with all that is in it; a link is removed, never followed.

    A directory that somebody writes to meanwhile, or in which a file is held open on NFS, stays.
    """
    if os.path.islink(directory):
        os.unlink(directory)
        sync_directories([os.path.dirname(directory)])
        return
    if not os.path.isdir(directory) and not tree.entries(directory):
        return
    directories = [directory]
    for above in directories:
        for entry in tree.entries(above):
            if entry.path in tree.own:
                continue
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.path)
            else:
                _unlink(entry)
    kept = [each for each in reversed(directories) if not _rmdir(each)]
    sync_directories([*kept, os.path.dirname(directory)])


def prune(tree: Tree, directory: str) -> None:
    """Remove the empty directories at and below `directory`, if they let themselves be removed.

    If it stays, the two above get another edition all the same. In the nearer that alone does not show
    for long: with the next name that comes or goes there it is just one more change.
    """
    directories = [directory]
    with contextlib.suppress(OSError):  # best effort, as the contract says
        for above in directories:
            directories += [
                entry.path
                for entry in tree.entries(above)
                if entry.is_dir(follow_symlinks=False) and entry.path not in tree.own
            ]
    for each in reversed(directories):
        with contextlib.suppress(OSError):
            os.rmdir(each)
    if not os.path.lexists(directory):
        return
    for parent in PurePath(directory).parents[:2]:
        if parent.is_relative_to(tree.root):
            with contextlib.suppress(OSError):
                os.utime(parent)


def _has_key(tree: Tree, entry: os.DirEntry[str], *, is_directory: bool) -> bool:
    if not _COMPONENT.fullmatch(entry.name):
        return False
    if is_directory:
        return entry.path not in tree.own
    return not _LITTER.fullmatch(entry.name)


def _unlink(entry: os.DirEntry[str]) -> None:
    try:
        os.unlink(entry.path)
    except OSError as error:
        held = error.errno == errno.EBUSY and _HELD_OPEN.fullmatch(entry.name)
        if error.errno not in _GONE and not held:
            raise


def _rmdir(directory: str) -> bool:
    """Whether it is gone."""
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno in _IN_USE:
            return False
        if error.errno not in _GONE:
            raise
    return True
