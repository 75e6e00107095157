"""A Holdfast server for each module, and the clients, each started once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import access, clients
from tests.support.api import Api, api
from tests.support.servers import Server, holdfast
from tests.support.tree import check_tree


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for what a test makes; images are large, so it goes at once."""
    directory = tmp_path_factory.mktemp("work")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """After the last test its tree must be whole, and its log free of errors."""
    directory = tmp_path_factory.mktemp("registry")
    with holdfast(directory) as server:
        yield server
    assert server.process.returncode == 0
    assert access.failures(server) == []
    assert check_tree(server.root) == []
    shutil.rmtree(directory)


@pytest.fixture
def http(registry: Server) -> Iterator[Api]:
    with api(registry.url) as made:
        yield made


@pytest.fixture(scope="session")
def docker() -> Iterator[clients.Docker]:
    with clients.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def podman() -> Iterator[clients.Podman]:
    with clients.podman_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def buildah() -> Iterator[clients.Client]:
    with clients.buildah_builder() as builder:
        yield builder


@pytest.fixture(scope="session")
def containerd() -> Iterator[clients.Containerd]:
    with clients.containerd_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> clients.Skopeo:
    return clients.skopeo(tmp_path_factory.mktemp("skopeo"))
