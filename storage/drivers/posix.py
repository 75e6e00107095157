"""System calls on files, and the one place where their errors become the driver's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from types import TracebackType

from storage.driver_errors import DriverError, InvalidKey, NoSpace, ObjectNotFound, Unavailable

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def translate(error: OSError, operation: str, key: str, *, reading: bool) -> DriverError:
    """The driver's error for one of the system. Only for a reader does "absent" mean not found."""
    number = error.errno or 0
    if reading and number in _ABSENT:
        return ObjectNotFound(f"{operation} {key}: there is no such object")
    text = f"{operation} {key}: {errno.errorcode.get(number, 'OSError')} ({error.strerror})"
    if number in _FULL:
        return NoSpace(text)
    if number == errno.ENAMETOOLONG:
        return InvalidKey(text)
    return Unavailable(text)


class _Translating:
    """A generator in its place would cost as much as the system call that it is around."""

    __slots__ = ("_key", "_operation", "_reading")

    def __init__(self, operation: str, key: str, reading: bool) -> None:
        self._operation = operation
        self._key = key
        self._reading = reading

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise translate(error, self._operation, self._key, reading=self._reading) from error


def system_errors(operation: str, key: str, *, reading: bool = False) -> _Translating:
    """Around a block, translate every OSError of it. `reading`: what is absent is not found."""
    return _Translating(operation, key, reading)


def write_all(descriptor: int, data: bytes) -> None:
    """write(2) may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_range(descriptor: int, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`, fewer only where the file ends."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def sync_directories(directories: Iterable[str]) -> None:
    """Make names durable. A directory that is gone took its names along: another's deletion won."""
    for directory in dict.fromkeys(directories):
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
