"""Exclusion between threads, processes and nodes by flock(2).

The kernel, or the NFS server, drops a lock when its holder dies. flock excludes every other open(2) of
the file, in the same process too, and is real across nodes on NFS 4.1, CephFS and Gluster; not on sshfs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import time
from collections.abc import Iterator

from storage.driver_errors import Unavailable

PATIENCE = 30.0
"""Seconds after which a lock is taken to be stuck: no holder keeps one for longer than one small write."""


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock_and_close(descriptor: int) -> None:
    """Unlocks by name: a child between fork and exec would hold on to the lock after a mere close."""
    with contextlib.suppress(OSError):  # close(2) releases it too
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


class Stripes:
    """256 locks for any number of keys: files of `directory`, which are never removed."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Hold the lock of `key`. Raises Unavailable after PATIENCE seconds, or OSError.

        It polls: a blocking flock cannot be given up, and one lost NFS client would in time hold
        every thread of every node.
        """
        stripe = f"{self._directory}/{hashlib.sha256(key.encode()).hexdigest()[:2]}"
        descriptor = os.open(stripe, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            deadline = time.monotonic() + PATIENCE
            pause = 0.001
            while not try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"swap {key}: {stripe} is still locked after {PATIENCE:.0f} s"
                    )
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, 0.02)
            yield
        finally:
            unlock_and_close(descriptor)
