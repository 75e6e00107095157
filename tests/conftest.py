"""Real S3 servers and network filesystems, each started once for all tests of a run, when one asks.

Tests take buckets of their own and give them back: `with rgw.fresh() as bucket`; and on a filesystem,
directories.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.ceph import Gateway, ceph_gateway
from tests.support.cephfs import ceph_filesystem
from tests.support.nfs import NfsNodes, nfs_nodes
from tests.support.s3 import S3Store, rclone_server

# Who runs the tests in the background of a script has Ctrl-C ignored, in what they start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine may be busy with other things: how long an example takes says nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A Ceph RADOS Gateway, for tests that need more of it than its S3."""
    with ceph_gateway(tmp_path_factory.mktemp("ceph")) as running:
        yield running


@pytest.fixture(scope="session")
def rgw(gateway: Gateway) -> S3Store:
    """The gateway over HTTP."""
    return gateway.store


@pytest.fixture(scope="session")
def rgw_tls(gateway: Gateway) -> S3Store:
    """The same gateway over TLS, with a certificate of a private authority."""
    return gateway.tls


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """`rclone serve s3`, a store with gaps."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as store:
        yield store


@pytest.fixture(scope="session")
def cephfs(gateway: Gateway) -> Iterator[tuple[Path, Path]]:
    """CephFS, mounted twice."""
    with ceph_filesystem(gateway.config) as mounts:
        yield mounts


@pytest.fixture(scope="session")
def nfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NfsNodes]:
    """Two machines that have mounted an NFS server's export, and see all that tests write here."""
    with nfs_nodes(tmp_path_factory.mktemp("nfs"), tmp_path_factory.getbasetemp()) as running:
        yield running
