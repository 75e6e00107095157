"""System calls on files that fail, are slow, or are the last thing the process does.

For what a whole driver call is too coarse for: which call of the system failed, and how it said so.
The drivers reach the system through the module `os`, and that is what is patched.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

_READ_FROM: Final = {"sendfile": 1}
"""Which argument is the file, where it is not the first."""


@dataclass(frozen=True, slots=True)
class SystemFault:
    """Strikes calls of the function `call` on paths that contain `path`.

    `error` is the name of an errno; without one the process dies. `late`: after the call has done its
    work. The first `skip` calls that match are let through, and then at most `times` are struck.
    """

    call: str
    path: str
    error: str = ""
    late: bool = False
    skip: int = 0
    times: int | None = None


def install(
    faults: Iterable[SystemFault],
    die: Callable[[], None],
    patch: Callable[[object, str, object], None] = setattr,
) -> None:
    for fault in faults:
        patch(os, fault.call, _struck(fault, getattr(os, fault.call), die))


def _struck(fault: SystemFault, real: Callable[..., Any], die: Callable[[], None]) -> Any:
    lock = threading.Lock()
    matched = 0

    def strikes(args: tuple[Any, ...]) -> bool:
        nonlocal matched
        if fault.path not in _path(args[_READ_FROM.get(fault.call, 0)]):
            return False
        with lock:
            matched += 1
            number = matched - fault.skip
        return number > 0 and (fault.times is None or number <= fault.times)

    def strike(args: tuple[Any, ...]) -> None:
        if not fault.error:
            die()
        number = getattr(errno, fault.error)
        raise OSError(number, os.strerror(number), _path(args[0]))

    def call(*args: Any, **more: Any) -> Any:
        struck = strikes(args)
        if struck and not fault.late:
            strike(args)
        result = real(*args, **more)
        if struck:
            strike(args)
        return result

    return call


def _path(file: object) -> str:
    if isinstance(file, int):
        try:
            return os.readlink(f"/proc/self/fd/{file}")
        except OSError:
            return ""
    return os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else ""
