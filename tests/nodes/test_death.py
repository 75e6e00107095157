"""One of two nodes dies by kill -9 under twenty clients, and stays dead: each gets what it came for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.nodes.clients import Stubborn, pieces
from tests.nodes.conftest import EVERY_WAY, Balancing, Placing, sound
from tests.nodes.operator import Operator
from tests.support.images import MIB
from tests.support.nodes import Node, nodes
from tests.support.registry import CONFIG, Blob, Document, Registry, image, some_bytes

PUSHING = PULLING = 10
PULLED = 24 * MIB
"""More than what fits into the buffers between a node and a client that does not read."""
PATIENCE = 150.0
"""Seconds for all clients to come to the middle, on a machine that has other things to do."""


class Middle:
    """Brings every client to the middle of its first transfer, and keeps it there until told to go on."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._going_on = threading.Event()

    def sending(self, content: bytes) -> Iterator[bytes]:
        half = len(content) // 2
        yield from pieces(content[:half])
        self._wait()
        yield from pieces(content[half:])

    def receiving(self, parts: Iterator[bytes]) -> bytes:
        content = bytearray(next(parts, b""))
        self._wait()
        for part in parts:
            content += part
        return bytes(content)

    def _wait(self) -> None:
        if not self._going_on.is_set():
            self._reached.release()
            assert self._going_on.wait(PATIENCE)

    def reached(self, count: int) -> None:
        for _ in range(count):
            assert self._reached.acquire(timeout=PATIENCE)

    def go_on(self) -> None:
        self._going_on.set()


def an_image(layer: int, *layers: int) -> Document:
    """Its first blob is its first layer, so that transfers begin with something of a size."""
    whole = image(*(some_bytes(size) for size in (layer, *layers)), config=Blob(b"{}", CONFIG))
    config, *rest = whole.blobs
    return Document(whole.content, whole.media_type, (*rest, config))


@pytest.mark.parametrize(("balancer", "storage"), EVERY_WAY)
def test_a_node_dies_under_pushes_and_pulls(
    placing: Placing, balancing: Balancing, balancer: str, storage: str
) -> None:
    place = placing(storage)
    middle = Middle()
    there = an_image(PULLED)
    pushed = {f"death/app{number}": an_image(4 * MIB, 300_000) for number in range(PUSHING)}
    # Served by the nodes, for what comes from the bucket itself does not notice.
    with nodes(place, storage={"redirect": {"disable": True}}) as both:
        front = balancing(balancer, both)
        first = Registry(both[0].url)
        first.push("death/there", "1", there)
        first.close()
        clients = [
            Stubborn(front.url, sending=middle.sending, receiving=middle.receiving)
            for _ in range(PUSHING + PULLING)
        ]
        with ThreadPoolExecutor(len(clients)) as pool:
            doing: list[Future[None]] = [
                pool.submit(client.push, name, "1", document)
                for client, (name, document) in zip(clients, pushed.items(), strict=False)
            ]
            doing += [
                pool.submit(client.pull, "death/there", "1", there) for client in clients[PUSHING:]
            ]
            try:
                middle.reached(len(clients))
                both[0].kill()
            finally:
                middle.go_on()
            for done in doing:
                done.result(120)
        for half in (clients[:PUSHING], clients[PUSHING:]):
            assert any(client.failures for client in half), "nobody noticed that a node died"
            assert not all(client.failures for client in half), "all were at one node"
        for client in clients:
            client.close()

        both[0].start()
        everything(both, {**pushed, "death/there": there})
    sound(place, *both)
    Operator.of(place).fsck("--scrub")


def everything(both: list[Node], pushed: dict[str, Document]) -> None:
    """All that a client was told is stored is to be had from each node."""
    for node in both:
        client = Stubborn(node.url, attempts=1)
        for name, document in pushed.items():
            client.pull(name, "1", document)
        client.close()
