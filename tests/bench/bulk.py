"""Rows that move one large blob."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.content import Content
from tests.bench.floors import hash_and_write, nginx
from tests.bench.measure import Figure, Floor, Meter, Row, Scale, Stage, Target
from tests.bench.transfers import pull_blob, pull_blob_hashing, push_chunks, push_patch, push_put
from tests.bench.wire import Unverified, Wire
from tests.support.certificates import Authority
from tests.support.servers import Server

REPOSITORY = "bench/blobs"
GB = 1e9

_PULL_TARGET = Target(ratio=0.4)
_PUSH_TARGET = Target(ratio=0.3, floor=1.4)
_MEMORY = Path("/dev/shm")


@dataclass(slots=True)
class _Bulk:
    server: Server
    scale: Scale
    content: Content

    @property
    def size(self) -> int:
        return self.scale.bulk


@contextlib.contextmanager
def _with_blob(stage: Stage) -> Iterator[_Bulk]:
    with stage.contender.start(stage.directory) as server:
        content = Content(stage.scale.bulk)
        with Wire(server.port) as wire:
            push_patch(wire, REPOSITORY, content)
        yield _Bulk(server, stage.scale, content)


@contextlib.contextmanager
def _with_tls(stage: Stage) -> Iterator[_Bulk]:
    stage.directory.mkdir(parents=True)
    authority = Authority(stage.directory)
    certificate, key = authority.issue("server", "127.0.0.1")
    more = {"http": {"tls": {"certificate": str(certificate), "key": str(key)}}}
    starting = stage.contender.start(
        stage.directory / "server", more=more, authority=authority.certificate
    )
    with starting as server:
        content = Content(stage.scale.bulk)
        with Wire(server.port, tls=_like_docker(server)) as wire:
            push_put(wire, REPOSITORY, content)
        yield _Bulk(server, stage.scale, content)


@contextlib.contextmanager
def _from_nginx(stage: Stage, *, tls: bool = False) -> Iterator[_Bulk]:
    stage.directory.mkdir(parents=True)
    content = Content(stage.scale.bulk)
    authority = Authority(stage.directory) if tls else None
    with nginx(stage.directory, REPOSITORY, content, authority) as server:
        yield _Bulk(server, stage.scale, content)


@contextlib.contextmanager
def _without_blob(stage: Stage) -> Iterator[_Bulk]:
    with stage.contender.start(stage.directory) as server:
        yield _Bulk(server, stage.scale, Content(0))


@contextlib.contextmanager
def _in_memory(stage: Stage) -> Iterator[_Bulk]:
    """On a filesystem in memory, where fsync has nothing to do."""
    status = os.statvfs(_MEMORY)
    if status.f_bavail * status.f_frsize < 3 * stage.scale.bulk:
        raise Unverified(f"{_MEMORY} has no room for three blobs; make it larger.")
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=_MEMORY) as place:
        with stage.contender.start(Path(place) / "server") as server:
            yield _Bulk(server, stage.scale, Content(0))


def _like_docker(server: Server) -> ssl.SSLContext:
    """With the cipher that docker asks for first, so that all sides encrypt alike.

    Only TLS 1.2 lets Python choose one.
    """
    tls = server.trust
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    return tls


def _pull(how: Callable[[int, str, Content], None]) -> Callable[[_Bulk, Meter], None]:
    def run(bulk: _Bulk, meter: Meter) -> None:
        pulls = bulk.scale.pulls
        with meter.measure(bulk.server, pulls * bulk.size / GB):
            for _ in range(pulls):
                how(bulk.server.port, REPOSITORY, bulk.content)

    return run


def _pull_tls(bulk: _Bulk, meter: Meter) -> None:
    tls = _like_docker(bulk.server)
    _pull(lambda port, name, content: pull_blob(port, name, content, tls))(bulk, meter)


def _pull_was_checked(_bulk: _Bulk) -> None:
    """Every byte was compared or hashed while it came: `Wire.read_content`, `Wire.hash_content`."""


def _push(how: Callable[[Wire, str, Content], None]) -> Callable[[_Bulk, Meter], None]:
    def run(bulk: _Bulk, meter: Meter) -> None:
        bulk.content = Content(bulk.size)
        assert bulk.content.digest  # hashed here, not while the server is measured
        with Wire(bulk.server.port) as wire, meter.measure(bulk.server, bulk.size / GB):
            how(wire, REPOSITORY, bulk.content)

    return run


def _push_in_chunks(bulk: _Bulk, meter: Meter) -> None:
    chunk = bulk.scale.chunk
    _push(lambda wire, name, content: push_chunks(wire, name, content, chunk))(bulk, meter)


def _pull_back(bulk: _Bulk) -> None:
    """Compare what was stored with what was sent, then take it off the disk."""
    pull_blob(bulk.server.port, REPOSITORY, bulk.content)
    encoded = bulk.content.digest.partition(":")[2]
    blobs = bulk.server.root / "docker/registry/v2/blobs/sha256"
    shutil.rmtree(blobs / encoded[:2] / encoded)


def _nginx_floor(
    run: Callable[[_Bulk, Meter], None],
    setup: Callable[[Stage], AbstractContextManager[_Bulk]] = _from_nginx,
) -> Floor[_Bulk]:
    return Floor("nginx", setup, run, _pull_was_checked)


def _pulls(
    name: str,
    title: str,
    run: Callable[[_Bulk, Meter], None],
    *,
    setup: Callable[[Stage], AbstractContextManager[_Bulk]] = _with_blob,
    floor: Floor[_Bulk] | None = None,
    target: Target = _PULL_TARGET,
) -> Row[_Bulk]:
    return Row(
        name=name,
        title=title,
        figure=Figure.CPU,
        unit="GB",
        setup=setup,
        run=run,
        verify=_pull_was_checked,
        target=target,
        floor=floor or _nginx_floor(run),
    )


def _pushes(
    name: str,
    title: str,
    run: Callable[[_Bulk, Meter], None],
    *,
    setup: Callable[[Stage], AbstractContextManager[_Bulk]] = _without_blob,
    place: Callable[[Stage], Path] = lambda stage: stage.directory,
) -> Row[_Bulk]:
    return Row(
        name=name,
        title=title,
        figure=Figure.CPU,
        unit="GB",
        setup=setup,
        run=run,
        verify=_pull_back,
        target=_PUSH_TARGET,
        floor=hash_and_write(place),
    )


ROWS = (
    _pulls("pull", "pull of a 1 GiB blob", _pull(pull_blob)),
    _pulls(
        "pull-docker",
        "pull of a 1 GiB blob, 32 KiB at a time and hashed",
        _pull(pull_blob_hashing),
    ),
    _pulls(
        "pull-tls",
        "pull of a 1 GiB blob, TLS",
        _pull_tls,
        setup=_with_tls,
        floor=_nginx_floor(_pull_tls, lambda stage: _from_nginx(stage, tls=True)),
        target=Target(ratio=0.5, floor=0.9),
    ),
    _pushes("push-patch", "push of 1 GiB: POST, chunked PATCH, PUT", _push(push_patch)),
    _pushes("push-put", "push of 1 GiB: POST, one PUT", _push(push_put)),
    _pushes("push-chunks", "push of 1 GiB: POST, PATCHes of 16 MiB, PUT", _push_in_chunks),
    _pushes(
        "push-memory",
        "push of 1 GiB as by PATCH, to a filesystem in memory: without the cost of fsync",
        _push(push_patch),
        setup=_in_memory,
        place=lambda _: _MEMORY,
    ),
)
