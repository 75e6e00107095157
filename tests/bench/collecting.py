"""Rows about the collector: looking through a large tree.

Ours and the peer's look at the very same tree, which neither changes.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.processes import Peak, peak
from tests.bench.trees import TreeMaker
from tests.bench.wire import Unverified

_POLL = 0.01
_FLAGS = ("--dry-run", "--delete-untagged")
_UNTAGGED = re.compile(
    r"newly condemned: \d+ blobs and (\d+) manifests|(\d+) manifests eligible for deletion"
)


@dataclass(slots=True)
class _Look:
    command: tuple[str, ...]
    log: Path
    tree: TreeMaker
    status: int = -1


@cache
def _made(root: Path, files: int) -> TreeMaker:
    """Once for both."""
    tree = TreeMaker(root)
    tree.make(files)
    os.sync()
    return tree


@contextlib.contextmanager
def _tree(files: int, stage: Stage) -> Iterator[_Look]:
    root = stage.directory.parent / f"tree-{files}"
    tree = _made(root, round(files * stage.scale.collected))
    storage = {"filesystem": {"rootdirectory": str(root)}}
    ready = stage.contender.prepare(stage.directory, storage)
    words = [[word] if word != "serve" else ["garbage-collect", *_FLAGS] for word in ready.command]
    yield _Look(tuple(word for each in words for word in each), ready.log, tree)


def _look(state: _Look, meter: Meter) -> None:
    """From exec to the end of the process."""
    with state.log.open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(state.command, stdout=log, stderr=subprocess.STDOUT)
        memory = Peak(0, 0)
        ended = 0
        while not ended:
            # What wait4() says of memory begins with what the parent had.
            memory = max(memory, peak(process.pid), key=lambda each: each.largest)
            time.sleep(_POLL)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        wall = time.perf_counter() - began
    state.status = process.returncode = os.waitstatus_to_exitcode(status)
    meter.record(used.ru_utime + used.ru_stime, wall, 1, memory)


def _found_the_untagged(state: _Look) -> None:
    said = state.log.read_text(errors="replace")
    if state.status != 0:
        raise Unverified(f"The dry run ended with {state.status}: {said[-300:]}")
    found = [int(match[1] or match[2]) for match in _UNTAGGED.finditer(said)]
    if found != [state.tree.untagged]:
        raise Unverified(
            f"It found {found} untagged manifests, and there are {state.tree.untagged}: {said[-300:]}"
        )


def _row(name: str, files: int, rounds: int) -> Row[_Look]:
    setup: Callable[[Stage], AbstractContextManager[_Look]] = partial(_tree, files)
    return Row(
        name=name,
        title=f"dry run of the collector over {files:,} files",
        figure=Figure.WALL,
        unit="run",
        setup=setup,
        run=_look,
        verify=_found_the_untagged,
        target=Target(ratio=0.25),
        most_rounds=rounds,
        further=((Figure.CPU, None), (Figure.MEMORY, Target(figure=200))),
    )


ROWS = (_row("gc-look", 100_000, 5), _row("gc-look-large", 526_751, 3))
