"""Two nodes on one storage, a tree or a bucket, and what must hold of both when the tests are through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.nodes.operator import QUICK
from tests.support import access, clients
from tests.support.balancers import BALANCERS, Balancer
from tests.support.nfs import MOUNT_POINT, NfsNodes
from tests.support.nodes import Node, Place, Storage, bucket_of, nodes
from tests.support.registry import Registry
from tests.support.s3 import S3Store
from tests.support.tree import check_tree

ONE_MACHINE = ["filesystem", "s3"]
NETWORKED = ["cephfs", "nfs"]
"""On which each node has a mount, or a machine, of its own. It takes long to start a node there."""
STORAGES = [*ONE_MACHINE, *NETWORKED]
BOTH_WAYS = [("nginx", "filesystem"), ("haproxy", "s3")]
"""Balancers and storages: two of four pairs, and each of them once."""
EVERY_WAY = [*BOTH_WAYS, ("nginx", "s3"), ("haproxy", "filesystem")]

Placing = Callable[[str], Storage]
Balancing = Callable[[str, list[Node]], Balancer]


@pytest.fixture(scope="module")
def placing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Placing]:
    """Makes empty storages of a kind that nodes can share."""
    with ExitStack() as used:
        yield lambda kind: used.enter_context(_placed(kind, request, tmp_path_factory))


@pytest.fixture(scope="package", params=STORAGES)
def storage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    with _placed(request.param, request, tmp_path_factory) as storage:
        yield storage


@pytest.fixture(scope="package")
def pair(storage: Storage) -> Iterator[list[Node]]:
    """Shared by tests that leave both running and use repositories of their own."""
    with nodes(storage, **QUICK) as both:
        yield both
    sound(storage, *both)


@pytest.fixture(scope="package")
def apis(pair: list[Node]) -> Iterator[tuple[Registry, Registry]]:
    """Both nodes, each spoken to without a balancer."""
    one, other = (Registry(node.url, in_bucket=node.storage.in_bucket) for node in pair)
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def balancing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancing]:
    """Puts a balancer in front of nodes, for the time of a test."""
    with ExitStack() as running:

        def balance(name: str, behind: list[Node]) -> Balancer:
            directory = tmp_path_factory.mktemp(name)
            ports, root = [node.port for node in behind], behind[0].storage.root
            return running.enter_context(BALANCERS[name](directory, ports, root=root))

        yield balance


@pytest.fixture(scope="session")
def docker() -> Iterator[clients.Docker]:
    with clients.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def containerd() -> Iterator[clients.Containerd]:
    with clients.containerd_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> clients.Skopeo:
    return clients.skopeo(tmp_path_factory.mktemp("skopeo"))


def sound(storage: Storage, *behind: Node) -> None:
    """No node said that it was at fault, and what they leave is whole."""
    for node in behind:
        assert access.failures(node.server) == []
    if storage.root is not None:
        assert check_tree(storage.root) == []


@contextmanager
def _placed(
    kind: str, request: pytest.FixtureRequest, factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    directory = factory.mktemp(kind)
    try:
        if kind == "s3":
            store: S3Store = request.getfixturevalue("rgw")
            with store.fresh("nodes") as bucket:
                yield bucket_of(store, bucket, directory)
        elif kind == "cephfs":
            yield _on_cephfs(request.getfixturevalue("cephfs"), directory)
        elif kind == "nfs":
            yield _on_nfs(request.getfixturevalue("nfs"), directory)
        else:
            yield Storage(directory)
    finally:
        shutil.rmtree(directory)


def _on_cephfs(mounts: tuple[Path, Path], directory: Path) -> Storage:
    trees = [mount / directory.name for mount in mounts]
    return Storage(directory, places=tuple(Place(tree) for tree in trees), tree=trees[0])


def _on_nfs(nfs: NfsNodes, directory: Path) -> Storage:
    tree = Path(MOUNT_POINT, directory.name)
    places = tuple(Place(tree, guest) for guest in nfs.machines.all)
    return Storage(directory, places=places, tree=nfs.export / directory.name)
