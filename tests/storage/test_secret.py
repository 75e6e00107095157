"""The key that nodes share."""

from __future__ import annotations

import threading

import pytest

from storage import layout, secret
from storage.driver import Driver


def test_it_is_made_once(driver: Driver) -> None:
    first = secret.load_or_create(driver)
    assert len(first) >= 64
    assert secret.load_or_create(driver) == first
    assert driver.read(layout.SECRET) == first


def test_all_nodes_get_the_same(driver: Driver) -> None:
    barrier = threading.Barrier(8)
    found: list[bytes] = []

    def node() -> None:
        barrier.wait(10)
        found.append(secret.load_or_create(driver))

    nodes = [threading.Thread(target=node) for _ in range(8)]
    for thread in nodes:
        thread.start()
    for thread in nodes:
        thread.join(30)
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("damaged", [b"", b"short", b"\n"])
def test_what_could_be_guessed_is_replaced(driver: Driver, damaged: bytes) -> None:
    driver.write(layout.SECRET, damaged)
    made = secret.load_or_create(driver)
    assert len(made) >= 64
    assert secret.load_or_create(driver) == made
