"""CephFS on the throw-away cluster of `ceph.ceph_gateway()`, mounted twice, each by a client of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.ceph import START_TIMEOUT, daemon, finish
from tests.support.engines import missing, program, require_root


@contextlib.contextmanager
def ceph_filesystem(config: Path) -> Iterator[tuple[Path, Path]]:
    """The two places where it is mounted; once for a cluster, which is named by its configuration."""
    require_root("mounting CephFS")
    ceph, mds, fuse = program("ceph"), program("ceph-mds"), program("ceph-fuse")
    if not Path("/dev/fuse").exists():
        missing("there is no /dev/fuse")
    directory = config.parent
    asking = [ceph, "-c", str(config), "--connect-timeout", str(int(START_TIMEOUT))]
    for order in (
        ["osd", "pool", "create", "cephfs.meta", "4"],
        ["osd", "pool", "create", "cephfs.data", "8"],
        ["fs", "new", "cephfs", "cephfs.meta", "cephfs.data"],
    ):
        finish(directory, [*asking, *order])
    with contextlib.ExitStack() as running:
        running.enter_context(daemon(directory, "mds", [mds, "-c", str(config), "-i", "a", "-f"]))
        _await_active(directory, asking)
        # Not where tests clean up: if they are killed, what is left there cannot be removed.
        above = Path(tempfile.mkdtemp(prefix="holdfast-cephfs-"))
        running.callback(shutil.rmtree, above, ignore_errors=True)
        mounts = above / "mount-1", above / "mount-2"
        for mount in mounts:
            client = [fuse, "-c", str(config), "-n", f"client.{mount.name}", "-f", str(mount)]
            running.enter_context(_mounted(directory, mount, client))
        yield mounts


def _await_active(directory: Path, asking: list[str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while "up:active" not in (said := finish(directory, [*asking, "mds", "stat"])):
        if time.monotonic() > deadline:
            raise AssertionError(f"the metadata server is not active: {said}")
        time.sleep(0.1)


@contextlib.contextmanager
def _mounted(directory: Path, mount: Path, command: list[str]) -> Iterator[None]:
    mount.mkdir()
    with daemon(directory, mount.name, command) as process:
        deadline = time.monotonic() + START_TIMEOUT
        while not mount.is_mount():
            if process.poll() is not None or time.monotonic() > deadline:
                said = (directory / f"{mount.name}.out").read_text(errors="replace")
                raise AssertionError(f"{mount} was not mounted:\n{said[-4000:]}")
            time.sleep(0.05)
        try:
            yield
        finally:
            subprocess.run([program("umount"), "--lazy", str(mount)], check=True, timeout=60)
