"""Several Holdfast nodes on one storage: each a server of its own, with two workers, that can die alone.

Nothing is configured that the nodes would have to agree on but the storage: no secret, no names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.s3 import S3Store
from tests.support.servers import Server, free_port, holdfast, merged

DRAIN_DELAY = 4.0
"""Seconds; longer than the balancers need to look away, as deploy/nginx.conf and haproxy.cfg ask for."""

_BEHIND_A_BALANCER: Mapping[str, Any] = {
    "http": {
        "trustedproxies": ["127.0.0.1"],
        "draindelay": f"{DRAIN_DELAY:g}s",
        "draintimeout": "30s",
    }
}


@dataclass(frozen=True, slots=True)
class Storage:
    """What nodes share: a bucket, or else the tree in `directory`."""

    directory: Path
    driver: str = "filesystem"
    section: Mapping[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path | None:
        """The tree, where there is one."""
        return self.directory / "tree" if self.driver == "filesystem" else None

    @property
    def in_bucket(self) -> bool:
        return self.driver != "filesystem"


def bucket_of(store: S3Store, bucket: str, directory: Path) -> Storage:
    """A bucket as storage. `directory` is for what is not in it: configurations and logs."""
    return Storage(directory, "s3", {"s3": store.parameters(bucket)})


class Node:
    """One node; started, stopped or killed any number of times at the same address."""

    def __init__(self, storage: Storage, /, **config: Any) -> None:
        self.storage = storage
        self.port = free_port()
        self._config = merged(
            merged(dict(_BEHIND_A_BALANCER), {"storage": storage.section}), config
        )
        self._running = ExitStack()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server(self) -> Server:
        """As it runs, or last ran."""
        assert self._server is not None, "the node has not been started"
        return self._server

    def start(self) -> None:
        """Start it and wait until it is ready."""
        started = holdfast(
            self.storage.directory,
            driver=self.storage.driver,
            port=self.port,
            config=self._config,
        )
        self._server = self._running.enter_context(started)

    def stop(self) -> None:
        """SIGTERM, and wait until it has stopped by itself."""
        assert self.server.stop(timeout=60) == 0, self.server.output()[-3000:]
        self._running.close()

    def kill(self) -> None:
        """SIGKILL for the node and its workers."""
        self.server.kill()
        self._running.close()

    def close(self) -> None:
        """Stop it at once, if it runs."""
        self._running.close()


@contextlib.contextmanager
def nodes(storage: Storage, count: int = 2, /, **config: Any) -> Iterator[list[Node]]:
    """Running nodes, with sections of configuration for all of them."""
    made = [Node(storage, **config) for _ in range(count)]
    try:
        for node in made:
            node.start()
        yield made
    finally:
        for node in made:
            node.close()
