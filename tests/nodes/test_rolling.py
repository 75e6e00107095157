"""Both nodes are restarted, one after the other, under clients that forgive nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.nodes.clients import Stubborn, pieces
from tests.nodes.conftest import BOTH_WAYS, Balancing, Placing, sound
from tests.support import access
from tests.support.clients import wait_for
from tests.support.nodes import nodes
from tests.support.registry import Document, image, some_bytes

QUICK, SLOW = 4, 2
SLOWLY = 0.1
"""Seconds between the pieces of a slow push, which then takes longer than a node's draining."""


def slowly(content: bytes) -> Iterator[bytes]:
    for piece in pieces(content):
        yield piece
        time.sleep(SLOWLY)


class Load:
    """Clients that push an image and pull it, over and over. `images` are those that were pushed."""

    def __init__(self, url: str) -> None:
        self.images: dict[str, Document] = {}
        self._url = url
        self._enough = threading.Event()

    def quick(self, number: int) -> None:
        self._run(f"rolling/quick{number}", Stubborn(self._url, attempts=1), (30_000, 100_000))

    def slow(self, number: int) -> None:
        client = Stubborn(self._url, attempts=1, sending=slowly)
        self._run(f"rolling/slow{number}", client, (4_000_000,))

    def await_more(self) -> None:
        served = len(self.images)
        wait_for(lambda: len(self.images) > served + QUICK, "the load goes on")

    def stop(self) -> None:
        self._enough.set()

    def _run(self, stem: str, client: Stubborn, sizes: tuple[int, ...]) -> None:
        rounds = 0
        while not self._enough.is_set():
            rounds += 1
            name, document = f"{stem}-{rounds}", image(*map(some_bytes, sizes))
            client.push(name, "1", document)
            client.pull(name, "1", document)
            self.images[name] = document
        client.close()


@pytest.mark.parametrize(("balancer", "storage"), BOTH_WAYS)
def test_no_request_fails_while_both_nodes_are_restarted(
    placing: Placing, balancing: Balancing, balancer: str, storage: str
) -> None:
    place = placing(storage)
    with nodes(place) as both:
        front = balancing(balancer, both)
        load = Load(front.url)
        with ThreadPoolExecutor(QUICK + SLOW) as pool:
            doing = [pool.submit(load.quick, number) for number in range(QUICK)]
            doing += [pool.submit(load.slow, number) for number in range(SLOW)]
            try:
                for node in both:
                    load.await_more()
                    node.stop()
                    node.start()
                load.await_more()
            finally:
                load.stop()
            for done in doing:
                done.result(60)
        for node in both:
            assert len(access.requests(node.server)) > 100, "one node had hardly anything to do"
            client = Stubborn(node.url, attempts=1)
            for name, document in load.images.items():
                client.pull(name, "1", document)
            client.close()
    sound(place, *both)
