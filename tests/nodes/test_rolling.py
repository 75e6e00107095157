"""Both nodes are restarted, one after the other, under clients that forgive nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nodes.conftest import BOTH_WAYS, Balancing, Placing, sound
from tests.nodes.load import RESTARTS, Load, all_readable
from tests.support import access
from tests.support.balancers import ACCELERATED
from tests.support.clients import Docker
from tests.support.nodes import nodes


@pytest.mark.timeout(300 + 60 * RESTARTS)
@pytest.mark.parametrize(("balancer", "storage"), BOTH_WAYS)
def test_no_request_fails_while_both_nodes_are_restarted(
    placing: Placing,
    balancing: Balancing,
    docker: Docker,
    tmp_path: Path,
    balancer: str,
    storage: str,
) -> None:
    place = placing(storage)
    with nodes(place, **ACCELERATED if place.root else {}) as both:
        load = Load(balancing(balancer, both), docker, tmp_path, attempts=1)
        with load.running():
            for restart in range(RESTARTS):
                load.await_more()
                node = both[restart % 2]
                node.stop()
                node.start()
        assert load.failures == []
        print(f"{balancer}: {len(load.pushed)} pushes, {load.pulls} pulls, {RESTARTS} restarts")
        for node in both:
            assert len(access.requests(node.server)) > 100, "one node had hardly anything to do"
            all_readable(node, load.pushed)
    sound(place, *both)
