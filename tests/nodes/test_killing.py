"""Nodes die by kill -9 at random and come back, under clients that try again as people and CI jobs do."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.nodes.conftest import BOTH_WAYS, Balancing, Placing, sound
from tests.nodes.load import KILLS, Load, all_readable
from tests.support.balancers import ACCELERATED
from tests.support.clients import Docker
from tests.support.nodes import nodes

LONGEST = 2.0
"""Seconds of life before the next one dies."""


@pytest.mark.timeout(300 + 60 * KILLS)
@pytest.mark.parametrize(("balancer", "storage"), BOTH_WAYS)
def test_nothing_acknowledged_is_lost_while_nodes_are_killed(
    placing: Placing,
    balancing: Balancing,
    docker: Docker,
    tmp_path: Path,
    balancer: str,
    storage: str,
) -> None:
    place = placing(storage)
    chance = random.Random(f"{balancer} {storage}")
    with nodes(place, **ACCELERATED if place.root else {}) as both:
        load = Load(balancing(balancer, both), docker, tmp_path, attempts=5)
        with load.running():
            for _ in range(KILLS):
                load.await_more()
                time.sleep(chance.uniform(0, LONGEST))
                node = chance.choice(both)
                node.kill()
                time.sleep(chance.uniform(0, LONGEST))
                node.start()
        print(f"{balancer}: {len(load.pushed)} pushes, {load.pulls} pulls, {KILLS} kills")
        print(
            f"{len(load.failures)} requests and commands were repeated:", *load.failures, sep="\n"
        )
        for node in both:
            all_readable(node, load.pushed)
    sound(place, *both)
