"""Rows that move one large blob."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.content import Content
from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.transfers import pull_blob, pull_blob_hashing, push_patch, push_put
from tests.bench.wire import Wire
from tests.support.servers import Server

REPOSITORY = "bench/blobs"
GB = 1e9

_PULL_TARGET = Target(ratio=0.55)
_PUSH_TARGET = Target(ratio=0.5)


@dataclass(slots=True)
class _Bulk:
    server: Server
    size: int
    content: Content
    pulls: int


@contextlib.contextmanager
def _with_blob(stage: Stage) -> Iterator[_Bulk]:
    with stage.contender.start(stage.directory) as server:
        content = Content(stage.scale.bulk)
        with Wire(server.port) as wire:
            push_patch(wire, REPOSITORY, content)
        yield _Bulk(server, stage.scale.bulk, content, stage.scale.pulls)


@contextlib.contextmanager
def _without_blob(stage: Stage) -> Iterator[_Bulk]:
    with stage.contender.start(stage.directory) as server:
        yield _Bulk(server, stage.scale.bulk, Content(0), stage.scale.pulls)


def _pull(how: Callable[[int, str, Content], None]) -> Callable[[_Bulk, Meter], None]:
    def run(bulk: _Bulk, meter: Meter) -> None:
        with meter.measure(bulk.server, bulk.pulls * bulk.size / GB):
            for _ in range(bulk.pulls):
                how(bulk.server.port, REPOSITORY, bulk.content)

    return run


def _pull_was_checked(_bulk: _Bulk) -> None:
    """Every byte was compared or hashed while it came: `Wire.read_content`, `Wire.hash_content`."""


def _push(how: Callable[[Wire, str, Content], None]) -> Callable[[_Bulk, Meter], None]:
    def run(bulk: _Bulk, meter: Meter) -> None:
        bulk.content = Content(bulk.size)
        assert bulk.content.digest  # hashed here, not while the server is measured
        with Wire(bulk.server.port) as wire, meter.measure(bulk.server, bulk.size / GB):
            how(wire, REPOSITORY, bulk.content)

    return run


def _pull_back(bulk: _Bulk) -> None:
    """Compare what was stored with what was sent, then take it off the disk."""
    pull_blob(bulk.server.port, REPOSITORY, bulk.content)
    encoded = bulk.content.digest.partition(":")[2]
    blobs = bulk.server.root / "docker/registry/v2/blobs/sha256"
    shutil.rmtree(blobs / encoded[:2] / encoded)


ROWS = (
    Row(
        name="pull",
        title="pull of a 1 GiB blob",
        figure=Figure.CPU,
        unit="GB",
        setup=_with_blob,
        run=_pull(pull_blob),
        verify=_pull_was_checked,
        target=_PULL_TARGET,
    ),
    Row(
        name="pull-docker",
        title="pull of a 1 GiB blob, 32 KiB at a time and hashed",
        figure=Figure.CPU,
        unit="GB",
        setup=_with_blob,
        run=_pull(pull_blob_hashing),
        verify=_pull_was_checked,
        target=_PULL_TARGET,
    ),
    Row(
        name="push-patch",
        title="push of 1 GiB: POST, chunked PATCH, PUT",
        figure=Figure.CPU,
        unit="GB",
        setup=_without_blob,
        run=_push(push_patch),
        verify=_pull_back,
        target=_PUSH_TARGET,
    ),
    Row(
        name="push-put",
        title="push of 1 GiB: POST, one PUT",
        figure=Figure.CPU,
        unit="GB",
        setup=_without_blob,
        run=_push(push_put),
        verify=_pull_back,
        target=_PUSH_TARGET,
    ),
)
