"""Rows about the server as a whole: how soon it answers, and what it holds in memory under load."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench.bulk import REPOSITORY
from tests.bench.content import MIB, Content
from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.processes import cpu_seconds, peak
from tests.bench.swarm import Slow, SlowDownload, SlowUpload, drive
from tests.bench.transfers import pull_blob, push_put
from tests.bench.wire import Unverified, Wire
from tests.support.servers import Server

_START_LIMIT = 20.0
_POLL = 0.001
_STALL = 2.0
_FINISHED = 5
"""How many of the uploads, and of the downloads, go on to their end."""
_BLOBS = 4


@dataclass(slots=True)
class _Starts:
    stage: Stage
    serial: Iterator[int] = field(default_factory=itertools.count)
    status: int = 0


@contextlib.contextmanager
def _nothing_runs(stage: Stage) -> Iterator[_Starts]:
    yield _Starts(stage)


def _start(state: _Starts, meter: Meter) -> None:
    """From exec to the first 200 of /v2/, over an empty tree; then it is stopped."""
    state.status = 0
    ready = state.stage.contender.prepare(state.stage.directory / str(next(state.serial)))
    with ready.log.open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            ready.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while time.perf_counter() - began < _START_LIMIT and process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError):
                with Wire(ready.port) as wire:
                    state.status = wire.ask("GET", "/v2/")[0].status
                break
            time.sleep(_POLL)
        wall = time.perf_counter() - began
        meter.record(cpu_seconds(process.pid), wall, 1, peak(process.pid))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(15)


def _it_answered(state: _Starts) -> None:
    if state.status != 200:
        raise Unverified(f"The first answer's status was {state.status or 'none'}, not 200.")


@dataclass(slots=True)
class _Crowd:
    server: Server
    stage: Stage
    blobs: list[Content]
    finished: list[Content] = field(default_factory=list)


@contextlib.contextmanager
def _with_blobs(stage: Stage) -> Iterator[_Crowd]:
    with stage.contender.start(stage.directory) as server:
        blobs = [Content(stage.scale.transfer_size) for _ in range(_BLOBS)]
        for content in blobs:
            with Wire(server.port) as wire:
                push_put(wire, REPOSITORY, content)
        yield _Crowd(server, stage, blobs)


def _crowd(state: _Crowd, meter: Meter) -> None:
    """All transfers begin, and go on together to half their share, stand still, and go on to all of it.

    Then a few uploads and a few downloads go on to their end, and the others are broken off.
    """
    scale, port = state.stage.scale, state.server.port
    sources = itertools.islice(itertools.cycle(state.blobs), scale.transfers)
    contents = [Content(scale.transfer_size, period=MIB) for _ in range(scale.transfers)]
    state.finished = contents[:_FINISHED]
    for content in state.finished:
        assert content.digest  # hashed here, not while the server is measured
    moved = 2 * (scale.transfers - _FINISHED) * scale.transfer_share
    moved += 2 * _FINISHED * scale.transfer_size
    with contextlib.ExitStack() as open_wires, meter.measure(state.server, moved / 1e9):
        uploads: list[SlowUpload] = []
        downloads: list[SlowDownload] = []
        for source, content in zip(sources, contents, strict=True):
            downloads.append(SlowDownload(port, REPOSITORY, source))
            open_wires.enter_context(downloads[-1].wire)
            uploads.append(SlowUpload(port, REPOSITORY, content))
            open_wires.enter_context(uploads[-1].wire)
        everyone: list[Slow] = [*uploads, *downloads]
        drive(everyone, scale.transfer_share // 2)
        time.sleep(_STALL)
        drive(everyone, scale.transfer_share)
        drive([*uploads[:_FINISHED], *downloads[:_FINISHED]], scale.transfer_size)
        for upload in uploads[:_FINISHED]:
            upload.finish()


def _finished_uploads_come_back(state: _Crowd) -> None:
    """Downloads were compared as they came; the uploads that ended are compared here."""
    for content in state.finished:
        pull_blob(state.server.port, REPOSITORY, content)


ROWS = (
    Row(
        name="start",
        title="start to first answer",
        figure=Figure.WALL,
        unit="start",
        setup=_nothing_runs,
        run=_start,
        verify=_it_answered,
        target=Target(figure=1.0),
    ),
    Row(
        name="memory",
        title="100 uploads and 100 downloads of 200 MB in progress at once",
        figure=Figure.MEMORY,
        unit="GB",
        setup=_with_blobs,
        run=_crowd,
        verify=_finished_uploads_come_back,
        target=Target(figure=150),
        most_rounds=2,
    ),
)
