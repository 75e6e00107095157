"""What this user may do with the files of a tree, found out without touching one of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Rights:
    files: int = 0
    directories: int = 0
    unreadable: list[str] = field(default_factory=list)
    """The first of them; `unreadable_count` says how many."""
    unreadable_count: int = 0
    unwritable: list[str] = field(default_factory=list)
    """Directories."""
    unwritable_count: int = 0
    mounted_readonly: bool = False


_LISTED = 3


def survey_rights(root: str) -> Rights:
    """Looks at every file and directory below `root`, through symbolic links to directories as well."""
    found = Rights(mounted_readonly=bool(os.statvfs(root).f_flag & os.ST_RDONLY))
    pending = [root]
    while pending:
        directory = pending.pop()
        found.directories += 1
        if not _may_write(directory, found):
            found.unwritable_count += 1
            found.unwritable += [directory] * (len(found.unwritable) < _LISTED)
        try:
            entries = [*os.scandir(directory)]
        except PermissionError:
            _unreadable(found, directory)
            continue
        except FileNotFoundError:
            continue  # the registry goes on meanwhile
        for path, is_directory in _kinds(entries):
            if is_directory:
                pending.append(path)
                continue
            found.files += 1
            if not os.access(path, os.R_OK, effective_ids=True) and os.path.lexists(path):
                _unreadable(found, path)
    return found


def _kinds(entries: list[os.DirEntry[str]]) -> Iterator[tuple[str, bool]]:
    for entry in entries:
        yield entry.path, entry.is_dir()


def _unreadable(found: Rights, path: str) -> None:
    found.unreadable_count += 1
    found.unreadable += [path] * (len(found.unreadable) < _LISTED)


def _may_write(directory: str, found: Rights) -> bool:
    """Of a volume that is mounted read-only for the look alone, the mode tells what there would be."""
    if not found.mounted_readonly:
        return os.access(directory, os.W_OK | os.X_OK, effective_ids=True)
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        return True
    if os.geteuid() == 0:
        return True
    if status.st_uid == os.geteuid():
        return bool(status.st_mode & stat.S_IWUSR)
    if status.st_gid in {os.getegid(), *os.getgroups()}:
        return bool(status.st_mode & stat.S_IWGRP)
    return bool(status.st_mode & stat.S_IWOTH)
