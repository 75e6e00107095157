"""Two nodes on one storage, a tree or a bucket, and what must hold of both when the tests are through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import access, clients
from tests.support.balancers import BALANCERS, Balancer
from tests.support.nodes import Node, Storage, bucket_of, nodes
from tests.support.registry import Registry
from tests.support.s3 import S3Store
from tests.support.tree import check_tree

STORAGES = ["filesystem", "s3"]
BOTH_WAYS = [("nginx", "filesystem"), ("haproxy", "s3")]
"""Balancers and storages: two of four pairs, and each of them once."""

Placing = Callable[[str], Storage]
Balancing = Callable[[str, list[Node]], Balancer]


@pytest.fixture(scope="module")
def placing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Placing]:
    """Makes empty storages of a kind that nodes can share."""
    with ExitStack() as used:

        def place(kind: str) -> Storage:
            directory = used.enter_context(_directory(tmp_path_factory, kind))
            if kind == "filesystem":
                return Storage(directory)
            store: S3Store = request.getfixturevalue("rgw")
            return bucket_of(store, used.enter_context(store.fresh("nodes")), directory)

        yield place


@pytest.fixture(scope="module", params=STORAGES)
def storage(request: pytest.FixtureRequest, placing: Placing) -> Storage:
    return placing(request.param)


@pytest.fixture(scope="module")
def pair(storage: Storage) -> Iterator[list[Node]]:
    """Shared by the tests of a module, which leave both running and use repositories of their own."""
    with nodes(storage) as both:
        yield both
    sound(storage, *both)


@pytest.fixture(scope="module")
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
def _directory(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    directory = factory.mktemp(name)
    yield directory
    shutil.rmtree(directory)
