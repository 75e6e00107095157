"""Metrics directories whose server was killed: each is memory that nobody gives back.

Whoever makes such a directory holds a lock in it for as long as it lives, and so do the workers that it
forks. The kernel lets go of a lock however a process ends, and knows of processes that a process id
does not: those in another container with the same /dev/shm. So a directory whose lock can be had
belongs to nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

log = logging.getLogger("holdfast.metrics")

PREFIX: Final = "holdfast-metrics-"
"""How the names of all such directories begin (`metrics.prepare`)."""
LOCK: Final = "owner"
UNCLAIMED: Final = 60.0
"""Seconds that a directory may be without a lock file: its owner is about to make one."""


def claim(directory: Path) -> int:
    """Make `directory` this process's own, and remove its neighbours that nobody owns any more.

    To be called before any fork. The lock ends with this process and its children, or when the
    descriptor that is returned is closed. Raises OSError if the directory cannot be claimed; a
    neighbour that cannot be removed is left.
    """
    unnamed = directory / f"{LOCK}.new"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(directory / LOCK)  # under its name it was never without its lock
    for neighbour in directory.parent.glob(f"{PREFIX}*"):
        if neighbour != directory and _is_ours(neighbour) and _is_abandoned(neighbour):
            log.info("removing %s, which a server that was killed has left", neighbour)
            shutil.rmtree(neighbour, ignore_errors=True)
    return descriptor


def _is_ours(path: Path) -> bool:
    """Whether it is a directory of this user: /dev/shm is everybody's."""
    with contextlib.suppress(FileNotFoundError):
        return path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink()
    return False


def _is_abandoned(directory: Path) -> bool:
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - directory.stat().st_mtime > UNCLAIMED
        return False
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
