"""What is peculiar to NFS, on machines that have the kernel's own client."""

from __future__ import annotations

from tests.nodes.conftest import Placing
from tests.nodes.operator import Operator
from tests.support.nfs import NfsNodes


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
