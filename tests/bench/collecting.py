"""Rows about the collector: looking through a large tree or bucket, and pushing beside it.

Ours and the peer's look at the very same tree, which neither changes.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from tests.bench.bucket import shared
from tests.bench.contenders import WITHOUT_AUTHORITY
from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.processes import Peak, peak
from tests.bench.trees import TreeMaker
from tests.bench.wire import Unverified
from tests.support.s3 import S3Store

_POLL = 0.01
_FLAGS = ("--dry-run", "--delete-untagged")
_UNTAGGED = re.compile(
    r"newly condemned: \d+ blobs and (\d+) manifests|(\d+) manifests eligible for deletion"
)
_UPLOADS = 16
"""At once, where a tree is brought to a bucket."""


@dataclass(slots=True)
class _Look:
    command: tuple[str, ...]
    log: Path
    untagged: int
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
    ready = stage.contender.prepare(stage.directory, {"filesystem": {"rootdirectory": str(root)}})
    yield _Look(collector(ready.command, *_FLAGS), ready.log, tree.untagged)


@contextlib.contextmanager
def _bucket(files: int, stage: Stage) -> Iterator[_Look]:
    root = stage.directory.parent / f"tree-{files}"
    tree = _made(root, round(files * stage.scale.collected))
    with shared.use() as gateway:
        bucket = _filled(gateway.store, root)
        storage = {"s3": gateway.store.parameters(bucket, secure=False)}
        ready = stage.contender.prepare(stage.directory, storage)
        # What is in a bucket cannot be made to look old.
        ours = ("--min-age", "0") if stage.contender.is_ours else ()
        command = (*WITHOUT_AUTHORITY, *collector(ready.command, *_FLAGS, *ours))
        yield _Look(command, ready.log, tree.untagged)


@cache
def _filled(store: S3Store, root: Path) -> str:
    """A bucket with all files of the tree, for both."""
    bucket, client = store.bucket("collected"), store.client()

    def put(path: Path) -> None:
        key = str(path.relative_to(root))
        client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    with ThreadPoolExecutor(_UPLOADS) as pool:
        for _ in pool.map(put, (path for path in root.rglob("*") if path.is_file())):
            pass
    return bucket


def collector(serve: tuple[str, ...], *options: str) -> tuple[str, ...]:
    """The command that collects, made from the one that serves."""
    words = [[word] if word != "serve" else ["garbage-collect", *options] for word in serve]
    return tuple(word for each in words for word in each)


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
    if found != [state.untagged]:
        raise Unverified(
            f"It found {found} untagged manifests, and there are {state.untagged}: {said[-300:]}"
        )


def _row(
    name: str,
    where: str,
    files: int,
    rounds: int,
    ratio: float,
    setup: Callable[[int, Stage], AbstractContextManager[_Look]],
) -> Row[_Look]:
    return Row(
        name=name,
        title=f"dry run of the collector over {files:,} {where}",
        figure=Figure.WALL,
        unit="run",
        setup=partial(setup, files),
        run=_look,
        verify=_found_the_untagged,
        target=Target(ratio=ratio),
        most_rounds=rounds,
        further=((Figure.CPU, None), (Figure.MEMORY, Target(figure=200))),
        limit=900,
    )


ROWS = (
    _row("gc-look", "files", 100_000, 5, 0.25, _tree),
    _row("gc-look-large", "files", 526_751, 3, 0.25, _tree),
    _row("gc-look-s3", "objects of a bucket", 30_000, 3, 0.1, _bucket),
)
