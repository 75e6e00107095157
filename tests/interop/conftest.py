"""Debian's docker-registry, which is CNCF Distribution, on the same tree as Holdfast."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.engines import program


@pytest.fixture(scope="session")
def peer() -> str:
    """Its program."""
    return program("docker-registry")


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> clients.Skopeo:
    return clients.skopeo(tmp_path_factory.mktemp("skopeo"))


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("interop")
    yield directory
    shutil.rmtree(directory)
