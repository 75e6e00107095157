"""A directory looked at as a storage for images: does it keep what the filesystem driver relies on?

Writes a few small files below the registry's own temporary directory, and removes them.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.examination import Observation, problem, warning, well

_LITTLE_SPACE: Final = 0.05
_FEW_INODES: Final = 0.05
_SKEW: Final = 5.0
_NETWORK: Final = frozenset(("nfs", "nfs4", "ceph", "fuse.glusterfs", "cifs", "smb3", "9p"))
_LOCAL_LOCKS: Final = frozenset(("fuse.sshfs", "cifs", "smb3"))


def examine(root: Path, temporary: Path) -> Iterator[Observation]:
    """`root` is the `rootdirectory`; `temporary` a directory below it, made if it is not there."""
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        directory = temporary / f"doctor-{secrets.token_hex(8)}"
        directory.mkdir()
    except OSError as error:
        yield problem(
            "directory",
            f"{error.filename or root} cannot be written: {error.strerror}.",
            f"Let the user that runs the registry (now uid {os.geteuid()}) own {root}.",
        )
        return
    try:
        yield from _examine(root, directory)
    finally:
        for name in os.listdir(directory):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()


def _examine(root: Path, directory: Path) -> Iterator[Observation]:
    yield _rename(directory)
    yield _exclusive(directory)
    yield _sync(directory)
    yield _clock(directory)
    yield from _room(root)
    yield from _mount(root)


def _rename(directory: Path) -> Observation:
    old, new = directory / "old", directory / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with old.open("rb") as reader:
        new.replace(old)
        if reader.read() == b"old" and old.read_bytes() == b"new":
            return well("rename", "A file is replaced in one step; its readers keep what they had.")
    return problem(
        "rename",
        "A file that was replaced changed under its reader.",
        "Use a filesystem with POSIX renames: ext4, XFS, ZFS, NFS, CephFS.",
    )


def _exclusive(directory: Path) -> Observation:
    path = directory / "exclusive"
    path.touch()
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return well("exclusive creation", "Of two that create one name, one wins.")
    return problem(
        "exclusive creation",
        "Two could create one name.",
        "Compare-and-set of tags does not hold here; use another filesystem.",
    )


def _sync(directory: Path) -> Observation:
    begun = time.monotonic()
    try:
        with (directory / "synced").open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        return problem(
            "fsync",
            f"It fails: {error.strerror}. A power cut could lose acknowledged pushes.",
            "Use a filesystem that can sync files and directories.",
        )
    return well("fsync", f"Files and directories are synced, in {time.monotonic() - begun:.3f} s.")


def _clock(directory: Path) -> Observation:
    path = directory / "clock"
    path.touch()
    skew = time.time() - path.stat().st_mtime
    if abs(skew) > _SKEW:
        return problem(
            "clock",
            f"This machine's clock differs from the file server's by {skew:.0f} seconds.",
            "Run an NTP client on both: the age of uploads is reckoned by the server's clock.",
        )
    return well("clock", "This machine's clock and the filesystem's agree.")


def _room(root: Path) -> Iterator[Observation]:
    status = os.statvfs(root)
    free = status.f_bavail / status.f_blocks if status.f_blocks else 1.0
    size = status.f_bavail * status.f_frsize / 2**30
    if free < _LITTLE_SPACE:
        yield warning(
            "space",
            f"{size:.1f} GiB are left, {free:.0%} of the filesystem.",
            "Run registry-gc, or enlarge it: pushes are answered 503 when it is full.",
        )
    else:
        yield well("space", f"{size:.1f} GiB are left, {free:.0%} of the filesystem.")
    inodes = status.f_favail / status.f_files if status.f_files else 1.0
    if inodes < _FEW_INODES:
        yield warning(
            "inodes",
            f"{status.f_favail} are left, {inodes:.0%} of the filesystem's.",
            "Run registry-gc, or make a filesystem with more: each blob and each tag takes several.",
        )


def _mount(root: Path) -> Iterator[Observation]:
    kind, options = mount_of(root, Path("/proc/self/mounts").read_text("utf-8", "replace"))
    if kind in _LOCAL_LOCKS:
        yield problem(
            "mount",
            f"{root} is on {kind}, whose locks hold on one machine only.",
            "Run a single node on it, or use NFS 4.1, CephFS or S3.",
        )
    elif kind.startswith("nfs"):
        yield from _nfs(root, options)
    elif kind in _NETWORK:
        yield well("mount", f"{root} is on {kind}.")
    else:
        yield well("mount", f"{root} is on {kind}: a disk of this machine, so for a single node.")


def _nfs(root: Path, options: frozenset[str]) -> Iterator[Observation]:
    if options & {"vers=3", "vers=2", "nolock"}:
        yield problem(
            "mount",
            f"{root} is mounted with {' and '.join(sorted(options & {'vers=3', 'vers=2', 'nolock'}))}: "
            "locks between nodes are not sure.",
            "Mount it with vers=4.1 or 4.2.",
        )
    elif "soft" in options:
        yield problem(
            "mount",
            f"{root} is a soft mount: a slow server shows as failed or cut writes.",
            "Mount it hard.",
        )
    else:
        yield well("mount", f"{root} is on NFS 4, mounted hard.")


def mount_of(path: Path, mounts: str) -> tuple[str, frozenset[str]]:
    """The filesystem's type and mount options, from a text in the form of /proc/self/mounts."""
    _, kind, options = mount_entry(path, mounts)
    return kind, options


def mount_entry(path: Path, mounts: str) -> tuple[str, str, frozenset[str]]:
    """As mount_of(), with the place where it is mounted; "" if that is not in the text."""
    found, kind, options = "", "unknown", frozenset[str]()
    real = str(path.resolve())
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        point = fields[1].encode().decode("unicode_escape")
        inside = real == point or real.startswith(f"{point.rstrip('/')}/")
        if inside and len(point) >= len(found):
            found, kind, options = point, fields[2], frozenset(fields[3].split(","))
    return found, kind, options
