"""Filesystems of a chosen size or temper, for tests that may mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engines import missing, program, require_root


def mount(*arguments: str | Path) -> None:
    """Mount, or end the test here because that is not permitted."""
    require_root("mounting")
    command = [program("mount"), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        missing(f"mounting is not permitted here ({done.stderr.strip()})")


@contextmanager
def tmpfs(path: Path, size: str) -> Iterator[None]:
    """A filesystem in memory at `path`, which is made."""
    path.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "none", path)
    try:
        yield
    finally:
        subprocess.run([program("umount"), "--lazy", str(path)], check=True, timeout=60)


@contextmanager
def mounted_readonly(what: Path, path: Path) -> Iterator[None]:
    """The directory `what` at `path`, which is made, where nobody can write to it."""
    path.mkdir()
    mount("--bind", "-o", "ro", what, path)
    try:
        yield
    finally:
        subprocess.run([program("umount"), "--lazy", str(path)], check=True, timeout=60)
