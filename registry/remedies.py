"""Why a storage cannot be used, for the operator: one line that names the path and says what to run."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from registry.config import Settings
from storage import layout
from storage.driver_errors import DriverError
from storage.drivers.examining import mount_entry
from storage.model.digest import CANONICAL

READONLY: Final = "storage.maintenance.readonly.enabled: true"
LITTLE: Final = 100_000_000
"""Bytes: with less room than this on the filesystem most pushes fail."""

_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def explained(error: Exception, settings: Settings) -> str:
    """One line, also of what a store of others has to say."""
    cause = _of_system(error)
    filesystem = settings.storage.filesystem
    if cause is None or filesystem is None:
        return _as_told(error)
    root = str(filesystem.rootdirectory)
    path = cause.filename if isinstance(cause.filename, str) else root
    if cause.errno in _FORBIDDEN:
        return _forbidden(path if os.path.exists(path) else _nearest(path), root)
    if cause.errno == errno.EROFS:
        return _mounted_readonly(root)
    if cause.errno in _FULL:
        return (
            f"The storage cannot be used: the filesystem of {root} is full. Run: df -h {_quoted(root)}; "
            f"then make room, or serve what is there with {READONLY} meanwhile."
        )
    if cause.errno in (errno.ENOENT, errno.ENOTDIR):
        return (
            f"The storage cannot be used: {path} is no directory. Mount the volume, or correct "
            "storage.filesystem.rootdirectory."
        )
    return _as_told(error)


def _as_told(error: Exception) -> str:
    driver = error.__cause__ if isinstance(error.__cause__, DriverError) else error
    return f"The storage cannot be used: {' '.join(str(driver).split())}"


def foreign(settings: Settings) -> str | None:
    """What to say of a tree of another user, where the root alone is this one's.

    It would show at the first push only.
    """
    filesystem = settings.storage.filesystem
    if filesystem is None:
        return None
    root = str(filesystem.rootdirectory)
    readonly = settings.storage.maintenance.readonly.enabled
    wanted = os.R_OK | os.X_OK | (0 if readonly else os.W_OK)
    for directory in _upper(root):
        if not os.access(directory, wanted, effective_ids=True):
            if not readonly and os.statvfs(directory).f_flag & os.ST_RDONLY:
                return _mounted_readonly(root)
            return _forbidden(directory, root)
    return None


def little_room(settings: Settings) -> str | None:
    """A warning for a filesystem that is full, or nearly so; pulls go on."""
    filesystem = settings.storage.filesystem
    if filesystem is None or settings.storage.maintenance.readonly.enabled:
        return None
    root = str(filesystem.rootdirectory)
    status = os.statvfs(root)
    free = status.f_bavail * status.f_frsize
    if free >= LITTLE:
        return None
    return (
        f"The filesystem of {root} has {free // 1_000_000} MB left, so pushes will fail. Make room: "
        "registry-gc CONFIG gives back what deleted images take."
    )


def _of_system(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error


def _forbidden(path: str, root: str) -> str:
    status = os.stat(path)
    uid, gid = os.geteuid(), os.getegid()
    owner = f"{status.st_uid}:{status.st_gid}"
    return (
        f"The storage cannot be used: {path} belongs to {owner}{_called(status.st_uid)} and this user, "
        f"{uid}:{gid}, has not the rights there. Run as root: chown -R {uid}:{gid} {_quoted(root)}"
    )


def _mounted_readonly(root: str) -> str:
    return (
        f"The storage cannot be used: {root} is mounted read-only. Run as root: mount -o remount,rw "
        f"{_quoted(_mount_point(root))} (of a container: take :ro from its volume); or serve what is there "
        f"with {READONLY}."
    )


def _upper(root: str) -> Iterator[str]:
    """The directories, as far as they are there, from the root down to those that pushes make others in."""
    yield root
    directory = root
    for part in layout.ROOT.split("/"):
        directory = f"{directory}/{part}"
        if os.path.exists(directory):
            yield directory
    for key in (layout.BLOBS, f"{layout.BLOBS}/{CANONICAL}", layout.REPOSITORIES):
        if os.path.exists(f"{root}/{key}"):
            yield f"{root}/{key}"


def _nearest(path: str) -> str:
    while not os.path.exists(path) and path not in ("", "/"):
        path = os.path.dirname(path)
    return path or "/"


def _mount_point(path: str) -> str:
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
        return mount_entry(Path(path), mounts.read())[0] or path


def _called(uid: int) -> str:
    try:
        return f" ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return ""


def _quoted(path: str) -> str:
    return shlex.quote(path)
