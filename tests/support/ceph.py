"""A throw-away Ceph cluster of one host with a RADOS Gateway: a real S3 server, ready in two seconds.

Everything listens on 127.0.0.1, lives in one directory, and dies with the tests. There is no cephx,
so that no keys have to be made.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.certificates import Authority
from tests.support.engines import program
from tests.support.s3 import S3Store, a_secret, await_answer
from tests.support.servers import free_port

START_TIMEOUT = 40.0
STORE_BYTES = 6 * 2**30
COLLECT_AFTER = 1
"""Seconds after which space of deleted objects is given back."""

_CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}/0]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
run dir = {directory}
admin socket =
pid file =
keyring = {directory}/no-keyring
crash dir = {directory}
log file = {directory}/$type.$id.log
mon cluster log file = {directory}/cluster.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw rados pool pg num min = 4
mon allow pool size one = true
mon pg warn min per osd = 0
mon max pg per osd = 2000
mon warn on pool no redundancy = false
mon warn on insecure global id reclaim = false
mon warn on insecure global id reclaim allowed = false
mon data avail warn = 2
mon data avail crit = 1
mon tick interval = 1
paxos propose interval = 0.05
paxos min wait = 0.01
osd heartbeat interval = 2
debug mon = 0/1
debug osd = 0/1
debug rgw = {verbosity}/1
debug ms = 0/0
[mon.a]
mon data = {directory}/mon
[osd.0]
osd data = {directory}/osd
osd objectstore = {objectstore}
osd memory target = 939524096
osd max object name len = 2048
osd class load list = *
osd class default list = *
memstore device bytes = {store_bytes}
bluestore block size = {store_bytes}
bluestore fsck on mount = false
bluestore cache autotune = false
bluestore cache size = 268435456
[mds.a]
mds data = {directory}/mds
# with the usual 5 s a file goes from one client to another as late as that
mds tick interval = 0.1
[client.rgw]
# without cephx the gateway has to speak to the monitor in the clear, which is not what it does
ms mon client mode = crc
# without tcp_nodelay a small answer takes 44 ms
rgw frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} \\
  ssl_certificate={certificate} ssl_private_key={key} tcp_nodelay=1
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
rgw gc obj min wait = {collect_after}
rgw gc processor period = {collect_after}
rgw gc processor max time = 60
rgw lc debug interval = {day}
rgw dns name = localhost
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running cluster: `store` over HTTP, `tls` over TLS; what is in one is in the other."""

    store: S3Store
    tls: S3Store
    config: Path
    log: Path
    """With `log_requests`, a line for each request: `"METHOD /bucket/key HTTP/1.1" status`."""

    def user(self, name: str) -> S3Store:
        """The gateway as a new user sees it, who may do nothing with others' buckets."""
        return _add_user(self.config, self.store, name)


@contextlib.contextmanager
def ceph_gateway(
    directory: Path,
    *,
    objectstore: Literal["memstore", "bluestore"] = "memstore",
    seconds_per_day: int = -1,
    log_requests: bool = False,
    store_bytes: int = STORE_BYTES,
) -> Iterator[Gateway]:
    """Start a cluster in `directory`, which must not be used for another, and stop it at the end.

    `store_bytes` is what it holds at most: in memory, or with bluestore in a file that grows so far.
    `seconds_per_day` above 0 makes lifecycle rules come true in a test's time.
    """
    names = ("ceph-mon", "ceph-osd", "radosgw", "ceph", "monmaptool", "radosgw-admin")
    tools = {name: program(name) for name in names}
    port, tls_port, mon_port = free_port(), free_port(), free_port()
    authority = Authority(directory)
    certificate, key = authority.issue("gateway", "localhost", "*.localhost", "127.0.0.1")
    cluster, osd = str(uuid.uuid4()), str(uuid.uuid4())
    for name in ("mon", "osd", "mds"):
        (directory / name).mkdir()
    config = directory / "ceph.conf"
    config.write_text(
        _CONFIG.format(
            fsid=cluster,
            mon_port=mon_port,
            directory=directory,
            objectstore=objectstore,
            store_bytes=store_bytes,
            port=port,
            tls_port=tls_port,
            certificate=certificate,
            key=key,
            collect_after=COLLECT_AFTER,
            day=seconds_per_day,
            verbosity=int(log_requests),
        )
    )
    base = S3Store(
        name="ceph",
        endpoint=f"http://127.0.0.1:{port}",
        access_key="holdfast",
        secret_key=a_secret(),
    )
    command = functools.partial(finish, directory)
    with contextlib.ExitStack() as running:
        monitor_map = directory / "monmap"
        address = f"[v2:127.0.0.1:{mon_port}/0]"
        command(
            [
                tools["monmaptool"],
                "--create",
                "--fsid",
                cluster,
                "--addv",
                "a",
                address,
                str(monitor_map),
            ]
        )
        mon = [tools["ceph-mon"], "-c", str(config), "-i", "a"]
        command([*mon, "--mkfs", "--monmap", str(monitor_map)])
        running.enter_context(daemon(directory, "mon", [*mon, "-f"]))
        storing = [tools["ceph-osd"], "-c", str(config), "-i", "0"]
        command([*storing, "--mkfs", "--osd-uuid", osd])
        ceph = [tools["ceph"], "-c", str(config), "--connect-timeout", str(int(START_TIMEOUT))]
        command([*ceph, "osd", "new", osd, "0"])
        running.enter_context(daemon(directory, "osd", [*storing, "-f"]))
        # This makes the gateway's first pools; the gateway itself must not try that at the same time.
        store = _add_user(config, base, base.access_key)
        gateway = [tools["radosgw"], "-c", str(config), "-n", "client.rgw", "-f"]
        process = running.enter_context(daemon(directory, "rgw", gateway))
        log = directory / "client.rgw.log"
        await_answer(store.endpoint, process, [directory / "rgw.out", log], START_TIMEOUT)
        secure = store.at(f"https://127.0.0.1:{tls_port}", ca=authority.certificate)
        yield Gateway(store, secure, config, log)


def _add_user(config: Path, store: S3Store, name: str) -> S3Store:
    user = store.of(name, a_secret())
    finish(
        config.parent,
        [
            program("radosgw-admin"),
            *("-c", str(config), "-n", "client.rgw", "user", "create"),
            *("--uid", name, "--display-name", name),
            *("--access-key", user.access_key, "--secret-key", user.secret_key),
        ],
    )
    return user


def finish(directory: Path, command: list[str]) -> str:
    """Run a command of Ceph to its end; what it printed. Its settings are ours, not the machine's."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT,
        check=False,
        cwd=directory,
        env=_environ(),
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        line = " ".join(command)
        raise AssertionError(f"{line}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


@contextlib.contextmanager
def daemon(directory: Path, name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """What it stores is thrown away, so it is killed, and at the latest when the tests end."""
    with (directory / f"{name}.out").open("wb") as output:
        process = subprocess.Popen(
            [program("setpriv"), "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=_environ(),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CEPH_")}
