"""The row about pushing beside a collection: how much slower pushes are while one is at work."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench.bucket import Client, Image
from tests.bench.collecting import collector
from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.processes import cpu_seconds, peak, reset_peaks
from tests.bench.trees import TreeMaker
from tests.bench.wire import Unverified
from tests.support.servers import Server

FILES = 100_000
GARBAGE = 0.05
"""So much is added to the tree for each sample, some of it garbage."""
LANES = 4
SPAN = 20.0
"""Seconds of pushes before the collection, and as many after it."""
BLINK = 0.05


@dataclass(slots=True)
class _Beside:
    server: Server
    tree: TreeMaker
    command: tuple[str, ...]
    stage: Stage
    serial: Iterator[int] = field(default_factory=itertools.count)
    status: int = -1
    said: str = ""

    def push_until(self, over: Callable[[], bool]) -> tuple[int, float]:
        """How many images were pushed by all lanes, and in how many seconds."""
        stop = threading.Event()

        def lane(_: int) -> int:
            pushed = 0
            with Client(self.server.port) as client:
                while not stop.is_set():
                    number = next(self.serial)
                    client.push(Image.new(f"bench/beside-{number % 25}", f"v{number}"))
                    pushed += 1
            return pushed

        with ThreadPoolExecutor(LANES) as pool:
            began = time.perf_counter()
            lanes = [pool.submit(lane, number) for number in range(LANES)]
            while not over() and not any(each.done() for each in lanes):
                time.sleep(BLINK)
            stop.set()
            pushed = sum(each.result() for each in lanes)
            return pushed, time.perf_counter() - began

    def push_for(self, seconds: float) -> tuple[int, float]:
        ends = time.monotonic() + seconds
        return self.push_until(lambda: time.monotonic() > ends)


@contextlib.contextmanager
def _server(stage: Stage) -> Iterator[_Beside]:
    """Each side has a tree of its own: this one is changed."""
    root = stage.directory.parent / f"{stage.contender.name}-beside"
    tree = TreeMaker(root)
    tree.make(round(FILES * stage.scale.collected))
    with stage.contender.start(
        stage.directory, {"filesystem": {"rootdirectory": str(root)}}
    ) as server:
        # The peer's may only look while there are pushes.
        options = ("--now", "--output", "json") if stage.contender.is_ours else ("--dry-run",)
        command = collector(stage.contender.command_in(stage.directory), *options)
        state = _Beside(server, tree, (*command, "--delete-untagged"), stage)
        state.push_for(BLINK)
        yield state


def _push(state: _Beside, meter: Meter) -> None:
    state.tree.make(round(state.tree.files * (1 + GARBAGE)))
    before = state.push_for(SPAN)
    root = state.server.process.pid
    reset_peaks(root)
    cpu = cpu_seconds(root)
    process = subprocess.Popen(
        state.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    reader = threading.Thread(target=lambda: setattr(state, "said", process.communicate()[0]))
    reader.start()
    pushed, seconds = state.push_until(lambda: not reader.is_alive())
    reader.join()
    state.status = process.returncode
    cpu = cpu_seconds(root) - cpu
    after = state.push_for(SPAN)
    undisturbed = (before[0] + after[0]) / (before[1] + after[1])
    meter.note(slowdown=undisturbed / (pushed / seconds), images_per_second=undisturbed)
    meter.record(cpu, seconds, pushed, peak(root))


def _it_collected(state: _Beside) -> None:
    if state.status != 0:
        raise Unverified(f"The collection ended with {state.status}: {state.said[-300:]}")
    if state.stage.contender.is_ours and not json.loads(state.said)["blobs_removed"]:
        raise Unverified(f"The collection removed nothing: {state.said[-300:]}")


ROWS = (
    Row(
        name="gc-push",
        title="pushes beside a collection of 100,000 files, and without",
        figure=Figure.SLOWDOWN,
        unit="image",
        setup=_server,
        run=_push,
        verify=_it_collected,
        target=Target(figure=1 / 0.95),
        most_rounds=2,
        limit=900,
    ),
)
