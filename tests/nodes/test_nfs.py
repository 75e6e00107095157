"""What is peculiar to NFS, on machines that have the kernel's own client."""

from __future__ import annotations

import signal

from tests.nodes.conftest import Placing
from tests.nodes.operator import Operator
from tests.support.nfs import MOUNT_POINT, NfsNodes


def test_the_doctor_sees_two_machines_of_one_name(placing: Placing, nfs: NfsNodes) -> None:
    storage = placing("nfs")
    first, second = nfs.machines.all
    assert "host name: No other machine" in Operator.of(storage, 0).doctor().stdout
    second.run("hostname", first.name)
    try:
        looked = Operator.of(storage, 1).doctor()
    finally:
        second.run("hostname", second.name)
    assert looked.code == 1
    assert f"also called {first.name}" in looked.stdout
    assert "1 problem," in looked.stdout


def test_the_server_of_these_tests_may_crash(placing: Placing, nfs: NfsNodes) -> None:
    placing("nfs")
    first, second = nfs.machines.all
    crashed = nfs.server.process
    first.run("touch", f"{MOUNT_POINT}/before")
    crashed.send_signal(signal.SIGSEGV)
    crashed.wait(10)
    second.run("touch", f"{MOUNT_POINT}/after", timeout=60)
    assert {"before", "after"} <= {*first.run("ls", MOUNT_POINT, timeout=60).stdout.split()}
    assert nfs.server.process is not crashed
    for name in ("before", "after"):
        first.run("rm", f"{MOUNT_POINT}/{name}")
