"""A directory looked at as a storage for images: does it keep what the filesystem driver relies on?

Writes a few small files below the registry's own temporary directory, and removes them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from storage.drivers.locks import try_lock, unlock_and_close
from storage.examination import Observation, problem, warning, well

PROC: Final = Path("/proc")
_LITTLE_SPACE: Final = 0.05
_FEW_INODES: Final = 0.05
_SKEW: Final = 5.0
_NETWORK: Final = frozenset(("nfs", "nfs4", "ceph", "fuse.glusterfs", "cifs", "smb3", "9p"))
_LOCAL_LOCKS: Final = frozenset(("fuse.sshfs", "cifs", "smb3"))
_BUCKETS: Final = frozenset(
    f"fuse.{name}"
    for name in (
        "s3fs",
        "goofys",
        "geesefs",
        "mount-s3",
        "rclone",
        "gcsfuse",
        "blobfuse",
        "blobfuse2",
    )
)
"""Object stores shown as directories: a rename there is a copy and a deletion."""
_UNSURE: Final = frozenset(
    ("vers=3", "vers=2", "nolock", "local_lock=all", "local_lock=flock", "local_lock=posix")
)
_REPLACEMENTS: Final = 50


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
        for subject, look in _TRIALS.items():
            yield _tried(subject, look, directory)
        yield from _room(root)
        yield from _mount(root, temporary)
    finally:
        for name in os.listdir(directory):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()


def _tried(subject: str, look: Callable[[Path], Observation], directory: Path) -> Observation:
    try:
        return look(directory)
    except OSError as error:
        return problem(
            subject,
            f"It fails: {error.strerror}.",
            "Use a filesystem that can do what a local disk can: ext4, XFS, ZFS, NFS 4.1, CephFS.",
        )


def _rename(directory: Path) -> Observation:
    """Replace a file again and again while another thread reads it, each time from its name on."""
    path, following = directory / "replaced", directory / "following"
    path.write_bytes(b"0" * 4096)
    found: list[str] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set() and not found:
            try:
                content = path.read_bytes()
            except OSError as error:
                found.append(
                    f"there was none for a moment ({errno.errorcode.get(error.errno or 0)})"
                )
                return
            if len(set(content)) != 1 or len(content) != 4096:
                found.append("it was seen half written")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with path.open("rb") as holder:
        for number in range(1, _REPLACEMENTS):
            following.write_bytes(str(number % 10).encode() * 4096)
            following.replace(path)
        kept = holder.read()
    over.set()
    reader.join()
    if kept != b"0" * 4096:
        found.append("who had it open read the new one")
    if not found:
        return well("rename", "A file is replaced in one step; its readers keep what they had.")
    return problem(
        "rename",
        f"A file is not replaced in one step: {found[0]}.",
        "Use a filesystem with POSIX renames: ext4, XFS, ZFS, NFS 4.1, CephFS; for a bucket, storage.s3.",
    )


def _locks(directory: Path) -> Observation:
    path = directory / "locked"
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT, 0o666) for _ in range(2))
    try:
        if try_lock(first) and not try_lock(second):
            return well("locks", "Of two that lock a file, one waits.")
    finally:
        unlock_and_close(first)
        unlock_and_close(second)
    return problem(
        "locks",
        "Two can lock one file.",
        "Compare-and-set of tags does not hold here; use a filesystem with flock(2).",
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


_TRIALS: Final[dict[str, Callable[[Path], Observation]]] = {
    "rename": _rename,
    "exclusive creation": _exclusive,
    "locks": _locks,
    "fsync": _sync,
    "clock": _clock,
}


def _mount(root: Path, temporary: Path) -> Iterator[Observation]:
    kind, options = mount_of(root, (PROC / "self/mounts").read_text("utf-8", "replace"))
    if kind in _LOCAL_LOCKS:
        yield problem(
            "mount",
            f"{root} is on {kind}, whose locks hold on one machine only.",
            "Run a single node on it, or use NFS 4.1, CephFS or S3.",
        )
    elif kind in _BUCKETS:
        yield problem(
            "mount",
            f"{root} is a bucket, shown as a directory by {kind.removeprefix('fuse.')}: its renames are "
            "copies, and nodes do not see each other's files at once.",
            "Let the registry use the bucket itself: storage.s3.",
        )
    elif kind.startswith("nfs"):
        yield from _nfs(root, options)
        yield from _host_name(temporary)
    elif kind in _NETWORK:
        yield well("mount", f"{root} is on {kind}.")
    else:
        yield well("mount", f"{root} is on {kind}: a disk of this machine, so for a single node.")


def _nfs(root: Path, options: frozenset[str]) -> Iterator[Observation]:
    if unsure := options & _UNSURE:
        yield problem(
            "mount",
            f"{root} is mounted with {' and '.join(sorted(unsure))}: locks between nodes are not sure.",
            "Mount it with vers=4.1 or 4.2, and without local_lock.",
        )
    elif "nocto" in options:
        yield problem(
            "mount",
            f"{root} is mounted with nocto: opening a file no longer asks the server, so nodes serve "
            "tags that others have moved, and go on with uploads where these were.",
            "Mount it without nocto.",
        )
    elif "soft" in options or "softerr" in options:
        yield problem(
            "mount",
            f"{root} is a soft mount: a slow server shows as failed or cut writes.",
            "Mount it hard.",
        )
    else:
        yield well("mount", f"{root} is on NFS 4, mounted hard.")


def _host_name(temporary: Path) -> Iterator[Observation]:
    """Whether another machine of this one's name was here, by what each leaves for a day.

    A server takes two clients of one name for one that was restarted. That is told from a restart of this
    machine by the server's clock alone: what was left since this machine started was not left before.
    """
    name = socket.gethostname()
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    uptime = float((PROC / "uptime").read_text().split()[0])
    stem = f"machine-{hashlib.sha256(name.encode()).hexdigest()[:16]}-"
    mine = temporary / f"{stem}{boot}"
    mine.write_text(name)
    started = mine.stat().st_mtime - uptime
    others = [
        path
        for path in temporary.glob(f"{stem}*")
        if path != mine and path.stat().st_mtime > started
    ]
    if others:
        yield problem(
            "host name",
            f"Another machine that has this storage is also called {name}. An NFS server takes both for "
            "one: locks are shared, and reads fail with EIO.",
            "Give each node a host name of its own, and mount anew; or set the module parameter "
            "nfs.nfs4_unique_id on each.",
        )
    else:
        yield well(
            "host name", f"No other machine called {name} was seen here. Run this on every node."
        )


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
