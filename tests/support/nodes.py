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

from registry.cli_image import ANONYMOUS
from tests.support.guests.machine import Guest
from tests.support.guests.network import HOST
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
class Place:
    """Where a node runs that has a mount of its own."""

    tree: Path
    """The tree, as it is seen there."""
    guest: Guest | None = None
    """The machine, if it is not this one."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """What has to be before a command that is to run there."""
        return self.guest.prefix if self.guest else ()


@dataclass(frozen=True, slots=True)
class Storage:
    """What nodes share: a bucket, or the tree in `directory`, or one that is mounted in several places."""

    directory: Path
    driver: str = "filesystem"
    section: Mapping[str, Any] = field(default_factory=dict)
    places: tuple[Place, ...] = ()
    """Where nodes run, one after the other, if each has a mount of its own."""
    tree: Path | None = None
    """As this machine sees it, if it is not in `directory`."""

    @property
    def root(self) -> Path | None:
        """The tree, where there is one."""
        if self.driver != "filesystem":
            return None
        return self.tree or self.directory / "tree"

    @property
    def in_bucket(self) -> bool:
        return self.driver != "filesystem"

    def place(self, number: int) -> Place | None:
        return self.places[number % len(self.places)] if self.places else None

    def configured(self, number: int) -> Mapping[str, Any]:
        """The section `storage` of the configuration of a node, or of a command beside it."""
        if self.in_bucket:
            return self.section
        place = self.place(number)
        return {"filesystem": {"rootdirectory": str(place.tree if place else self.root)}}


def bucket_of(store: S3Store, bucket: str, directory: Path) -> Storage:
    """A bucket as storage. `directory` is for what is not in it: configurations and logs."""
    return Storage(directory, "s3", {"s3": store.parameters(bucket)})


class Node:
    """One node; started, stopped or killed any number of times at the same address.

    `number` says which of the storage's places it has.
    """

    def __init__(self, storage: Storage, number: int = 0, /, **config: Any) -> None:
        self.storage = storage
        self.port = free_port()
        self._place = storage.place(number)
        self._config = merged(
            merged(dict(_BEHIND_A_BALANCER), {"storage": storage.configured(number)}), config
        )
        if self._place and self._place.guest:
            self._place.guest.reach(self.port)
            self._config = merged(self._config, _in_a_guest(self.port))
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
            under=self._place.prefix if self._place else (),
            environ={ANONYMOUS: "1"} if self._place and self._place.guest else None,
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


def _in_a_guest(port: int) -> dict[str, Any]:
    """A guest has one processor, and hears us from outside, where nobody but us is."""
    return {"http": {"addr": f"0.0.0.0:{port}", "workers": 1, "trustedproxies": [HOST]}}


@contextlib.contextmanager
def nodes(storage: Storage, count: int = 2, /, **config: Any) -> Iterator[list[Node]]:
    """Running nodes, with sections of configuration for all of them."""
    made = [Node(storage, number, **config) for number in range(count)]
    try:
        for node in made:
            node.start()
        yield made
    finally:
        for node in made:
            node.close()
