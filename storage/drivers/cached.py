"""Reads of a local filesystem that are answered from memory, or not at all.

openat2(2) with RESOLVE_CACHED opens a file only if nothing has to be fetched to find it, and preadv2(2)
with RWF_NOWAIT reads only what is in the page cache. So an event loop may ask here, and goes to a thread
only when the answer is WouldBlock: for what is not in memory, for what is not there at all, and for
everything but small reads.

Only for filesystems of this machine. On a network one, opening a file asks the server.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NoReturn, TypeVar

from storage.driver_errors import WouldBlock
from storage.drivers.tree import Tree

T = TypeVar("T")

LARGEST_READ: Final = 16 * 1024
"""Bytes; what is larger costs an event loop more than a thread does."""

PAGE: Final = 4096

LOCAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)

_OPENAT2: Final = 437
_AT_FDCWD: Final = -100
_RESOLVE_CACHED: Final = 0x20


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


# Not CDLL: the call never waits, so letting go of the interpreter would only cost.
_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
]
_how = _How(os.O_RDONLY | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
_how_address = ctypes.addressof(_how)
_how_size = ctypes.sizeof(_how)
_PATH_ENCODING: Final = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def open_cached(path: str) -> int:
    """Raises WouldBlock, whatever the reason."""
    name = path.encode(*_PATH_ENCODING)
    descriptor: int = _syscall(_OPENAT2, _AT_FDCWD, name, _how_address, _how_size)
    if descriptor < 0:
        raise WouldBlock(f"open {path}: {errno.errorcode.get(ctypes.get_errno(), 'error')}")
    return descriptor


def read_page(path: str, offset: int, length: int) -> bytes:
    """At most `length` bytes that lie within the first page of a file: it is in memory, or is not.

    Raises WouldBlock, also where there is none: another registry may be writing the file in place, and
    whoever may wait sees what comes of it.
    """
    buffer = bytearray(length)
    descriptor = open_cached(path)
    try:
        del buffer[os.preadv(descriptor, (buffer,), offset, os.RWF_NOWAIT) :]
    except OSError as error:
        raise WouldBlock(f"read {path}: {error}") from error
    finally:
        os.close(descriptor)
    if not buffer:
        raise WouldBlock(f"read {path}: nothing is there")
    return bytes(buffer)


def read_cached(descriptor: int, offset: int, length: int) -> bytes:
    """Raises WouldBlock unless all of it is in memory."""
    buffer = bytearray(length)
    try:
        if length and os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT) == length:
            return bytes(buffer)
    except OSError as error:
        raise WouldBlock(f"read: {error}") from error
    if length:
        raise WouldBlock("read: not all of it is in memory")
    return b""


class CachedTree(Tree):
    """A tree of which one can only open what is in memory."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(
            tree.root,
            tree.temporary.removeprefix(f"{tree.root}/"),
            tree.locks.removeprefix(f"{tree.root}/"),
        )
        # The same few keys come with most requests, and are checked each time they come.
        self._paths = lru_cache(maxsize=4096)(super().path)

    def path(self, key: str) -> str:
        return self._paths(key)

    def open(self, path: str) -> tuple[int, os.stat_result]:
        descriptor = open_cached(path)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise WouldBlock(f"open {path}: not a file")
        return descriptor, status

    def again(self, attempt: Callable[[], T], path: str) -> NoReturn:
        raise WouldBlock(path)

    def place(self, attempt: Callable[[], T], path: str) -> NoReturn:
        raise WouldBlock(path)

    def write(self, path: str, data: bytes) -> NoReturn:
        raise WouldBlock(path)

    def look_at_directory(self, path: str) -> NoReturn:
        raise WouldBlock(path)

    def entries(self, directory: str) -> NoReturn:
        raise WouldBlock(directory)


def is_local(path: str) -> bool:
    """Whether the directory is on a filesystem of this machine; False if nobody can tell."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            lines = [line.split() for line in mounts]
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    kinds = {fields[fields.index("-") + 1] for fields in lines if fields[2] == wanted}
    return bool(kinds) and kinds <= LOCAL


def works(directory: str) -> bool:
    """Whether the kernel has what this needs: Linux 5.12, and no filter that forbids it."""
    try:
        os.close(open_cached(directory))
    except WouldBlock:
        return False
    return True
