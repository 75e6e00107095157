"""One registry for all tests that can share one, in every way there is; others start their own.

Two workers on a filesystem, one in memory, and two nodes of two workers each behind a load balancer. The
suite is the same for all: behind a balancer any request of a test may come to any of four processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.balancers import ACCELERATED, BALANCERS
from tests.support.nodes import Storage, bucket_of, nodes
from tests.support.registry import Registry, Serving
from tests.support.s3 import S3Store
from tests.support.servers import Server, holdfast

SERVERS = ["filesystem", "inmemory"]
CLUSTERS = {"nginx-filesystem": ("nginx", False), "haproxy-s3": ("haproxy", True)}
"""A balancer, and whether the nodes share a bucket. Two of four: each part is there once."""


@pytest.fixture(scope="session", params=[*SERVERS, *CLUSTERS])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """Shared: tests use repositories of their own."""
    kind: str = request.param
    directory = tmp_path_factory.mktemp(kind)
    servers: list[Server] = []
    balancer, in_bucket = CLUSTERS.get(kind, ("", False))
    with ExitStack() as running:
        if kind in SERVERS:
            server = running.enter_context(holdfast(directory, driver=kind))
            servers.append(server)
            url, root = server.url, server.root if kind == "filesystem" else None
        else:
            storage = Storage(directory)
            if in_bucket:
                store: S3Store = request.getfixturevalue("rgw")
                storage = bucket_of(store, running.enter_context(store.fresh()), directory)
            # No redirects to the bucket, because the suite looks at what the nodes themselves send.
            config: dict[str, Any] = {"storage": {"redirect": {"disable": True}}}
            if storage.root is not None:
                config |= ACCELERATED
            both = running.enter_context(nodes(storage, **config))
            servers.extend(node.server for node in both)
            place, ports = tmp_path_factory.mktemp(balancer), [node.port for node in both]
            root = storage.root
            url = running.enter_context(BALANCERS[balancer](place, ports, root=root)).url
        registry = Registry(url, root, balancer, in_bucket)
        yield registry
        registry.close()
    for server in servers:
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
