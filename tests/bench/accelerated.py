"""The row of a pull that nginx sends from the disk by itself (http.accelredirect).

What counts is the CPU time of nginx and of the node together. A peer, which has nothing of the kind, is
asked without a balancer, and so spared the second copy that one would cost it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench import contenders, floors
from tests.bench.content import Content
from tests.bench.measure import Figure, Floor, Meter, Row, Scale, Stage, Target
from tests.bench.processes import cpu_seconds
from tests.bench.transfers import pull_blob, push_patch
from tests.bench.wire import Wire
from tests.support.balancers import ACCELERATED, nginx
from tests.support.servers import Server, free_port, merged

REPOSITORY = "bench/blobs"
GB = 1e9


@dataclass(slots=True)
class _Pulling:
    server: Server
    port: int
    """Where clients ask: at nginx, where there is one."""
    balancer: int
    """The process id of that, or 0."""
    scale: Scale
    content: Content


@contextlib.contextmanager
def _behind_nginx(stage: Stage) -> Iterator[_Pulling]:
    content = Content(stage.scale.bulk)
    accelerated = stage.contender.name == contenders.holdfast().name
    more = merged(ACCELERATED, {"http": {"trustedproxies": ["127.0.0.1"]}}) if accelerated else None
    with contextlib.ExitStack() as running:
        server = running.enter_context(stage.contender.start(stage.directory, more=more))
        with Wire(server.port) as wire:
            push_patch(wire, REPOSITORY, content)
        port, balancer = server.port, 0
        if accelerated:
            place = stage.directory / "nginx"
            place.mkdir()
            front = nginx(place, [server.port, free_port()], root=server.root)
            started = running.enter_context(front)
            port, balancer = started.port, started.process.pid
        yield _Pulling(server, port, balancer, stage.scale, content)


@contextlib.contextmanager
def _from_nginx(stage: Stage) -> Iterator[_Pulling]:
    stage.directory.mkdir(parents=True)
    content = Content(stage.scale.bulk)
    with floors.nginx(stage.directory, REPOSITORY, content) as server:
        yield _Pulling(server, server.port, 0, stage.scale, content)


def _pull(pulling: _Pulling, meter: Meter) -> None:
    pulls = pulling.scale.pulls
    before = cpu_seconds(pulling.balancer) if pulling.balancer else 0.0
    with meter.measure(pulling.server, pulls * pulling.content.size / GB):
        for _ in range(pulls):
            pull_blob(pulling.port, REPOSITORY, pulling.content)
    if pulling.balancer and (own := meter.sample) is not None:
        further = cpu_seconds(pulling.balancer) - before
        meter.record(own.cpu + further, own.wall, own.amount, own.memory)


def _was_checked(_pulling: _Pulling) -> None:
    """Every byte was compared while it came: `Wire.read_content`."""


ROWS = (
    Row(
        name="pull-accel",
        title="pull of a 1 GiB blob that nginx sends from the disk",
        figure=Figure.CPU,
        unit="GB",
        setup=_behind_nginx,
        run=_pull,
        verify=_was_checked,
        target=Target(floor=2.0),
        floor=Floor("nginx", _from_nginx, _pull, _was_checked),
    ),
)
