"""A layer of more than S3 takes in one object of one request, which is 5 GiB: in a bucket, with real bytes.

It writes some 20 GB and takes minutes, so it is only for who asks by HOLDFAST_TEST_LARGE=1. On every
change `tests/storage/test_s3_large.py` does the same with lower limits.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench.content import Content
from tests.bench.processes import peak, reset_peaks
from tests.bench.transfers import pull_blob, push_patch, push_put
from tests.bench.wire import Wire
from tests.nodes.conftest import sound
from tests.support.ceph import ceph_gateway
from tests.support.images import MIB
from tests.support.nodes import Node, bucket_of, nodes
from tests.support.s3 import S3Store

SIZE = 5 * 1024 * MIB + 100 * MIB + 17
ROOM = 40 * 10**9
"""What the disk must have: the upload, its copy, and what the store has not given back yet."""
WORKER_LIMIT = 400 * 10**6
"""Bytes. The parts on their way are some tens of MiB each, and no more of them in a larger layer."""

LARGE = "HOLDFAST_TEST_LARGE"
pytestmark = [
    pytest.mark.skipif(os.environ.get(LARGE) != "1", reason=f"takes minutes: set {LARGE}=1"),
    pytest.mark.timeout(3600),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3Store]:
    """A gateway whose bytes are on the disk, with room for all of them."""
    free = shutil.disk_usage(tmp_path).free
    assert free > ROOM, (
        f"{ROOM / 1e9:.0f} GB are needed below {tmp_path}, which has {free / 1e9:.0f}"
    )
    place = tmp_path / "ceph"
    place.mkdir()
    with ceph_gateway(place, objectstore="bluestore", store_bytes=ROOM // 2) as gateway:
        yield gateway.store
    shutil.rmtree(place)


@pytest.mark.parametrize("push", [push_patch, push_put])
def test_a_layer_of_more_than_five_gibibytes(
    store: S3Store, tmp_path: Path, push: Callable[[Wire, str, Content], None]
) -> None:
    """Pushed through one node; pulled through the other, and compared byte by byte."""
    content = Content(SIZE)
    with store.fresh("large") as bucket:
        place = bucket_of(store, bucket, tmp_path)
        with nodes(place, storage={"redirect": {"disable": True}}) as both:
            for node in both:
                reset_peaks(node.server.process.pid)
            assert content.digest  # hashed here, not while a server waits for it
            with Wire(both[0].port) as wire:
                push(wire, "large/layer", content)
            pull_blob(both[1].port, "large/layer", content)
            assert [size for size in store.keys(bucket).values() if size >= SIZE] == [SIZE]
            assert store.unfinished(bucket) == []
            used = [largest(node) for node in both]
            print(
                f"{push.__name__}: peak RSS of a worker that took it {used[0]}, that gave it {used[1]}"
            )
            assert max(used) < WORKER_LIMIT
        sound(place, *both)


def largest(node: Node) -> int:
    return peak(node.server.process.pid).largest
