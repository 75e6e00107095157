"""One server per driver for all tests that can share one; others start their own with `serving`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.registry import Registry, Serving
from tests.support.servers import holdfast

DRIVERS = ["filesystem", "inmemory"]


@pytest.fixture(scope="session", params=DRIVERS)
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """Two workers on a filesystem, one in memory. Shared: tests use repositories of their own."""
    driver: str = request.param
    with holdfast(tmp_path_factory.mktemp(driver), driver=driver) as server:
        registry = Registry(server.url, server.root if driver == "filesystem" else None)
        yield registry
        registry.close()
        assert "Traceback" not in server.output(), server.output()


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """A server of one's own, with the sections of a configuration. The next one has the same tree."""

    @contextmanager
    def start(
        *, driver: str = "filesystem", workers: int = 1, **config: Mapping[str, Any]
    ) -> Iterator[Registry]:
        with holdfast(tmp_path, driver=driver, workers=workers, config=config) as server:
            registry = Registry(server.url, server.root if driver == "filesystem" else None)
            try:
                yield registry
            finally:
                registry.close()

    return start
