"""Rows of trees that differ in size only: what a request costs must not grow with what is stored.

A row's tree has ten times the images, repositories and blobs of the row's before, and one of its
repositories ten times the tags. Of each tree the same number of images is asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from tests.bench.bucket import side_of
from tests.bench.measure import Figure, Meter, Row, Stage
from tests.bench.small import CONNECTIONS
from tests.bench.swarm import Expected, Question, ask_each
from tests.bench.transfers import push_manifest
from tests.bench.trees import FILES_PER_IMAGE, IMAGE, Kept, TreeMaker
from tests.bench.wire import Unverified, Wire, request
from tests.support.servers import Server

SIZES = (1, 10, 100)
_ASKED = 50
"""Images, out of all parts of the tree."""
_READS = 1000
_TAGGED = 50
"""Manifests that are pushed again under a new tag, in one sample."""
_UPLOADS = 16


@dataclass(slots=True)
class _Scaled:
    server: Server
    images: Sequence[Kept]
    serial: Iterator[int] = field(default_factory=itertools.count)
    pushed: list[tuple[str, Kept]] = field(default_factory=list)


def _tree(root: Path, images: int) -> TreeMaker:
    made = TreeMaker(root)
    made.make(images * FILES_PER_IMAGE)
    made.tag_again(made.kept[0], images)
    return made


_tree_of_both = cache(_tree)


@contextlib.contextmanager
def _on_disk(size: int, stage: Stage) -> Iterator[_Scaled]:
    root = stage.directory.parent / f"tree-{stage.contender.name}"
    made = _tree(root, size * stage.scale.images_scaled)
    storage = {"filesystem": {"rootdirectory": str(root)}}
    with stage.contender.start(stage.directory, storage) as server:
        yield _Scaled(server, _some(made.kept))


@contextlib.contextmanager
def _in_bucket(size: int, stage: Stage) -> Iterator[_Scaled]:
    root = stage.directory.parent / "tree"
    made = _tree_of_both(root, size * stage.scale.images_scaled_s3)
    with side_of(stage, redirect=False) as side:
        client = side.store.client()

        def put(path: Path) -> None:
            key = path.relative_to(root).as_posix()
            client.put_object(Bucket=side.bucket, Key=key, Body=path.read_bytes())

        with ThreadPoolExecutor(_UPLOADS) as pool:
            list(pool.map(put, _files(root)))
        yield _Scaled(side.server, _some(made.kept))


def _files(root: Path) -> Iterator[Path]:
    return (Path(place) / name for place, _, names in os.walk(root) for name in names)


def _some(kept: Sequence[Kept]) -> Sequence[Kept]:
    """So many of every tree, the first, which has the many tags, among them."""
    return kept[:: max(1, len(kept) // _ASKED)][:_ASKED]


def _questions(state: _Scaled) -> Iterator[Question]:
    """Manifest by tag, by digest, and HEAD of a layer, by turns, of one image after the other."""
    host = f"127.0.0.1:{state.server.port}"
    asked: list[Question] = []
    for image in state.images:
        of_manifest = Expected(len(image.manifest), image.digest, image.manifest)
        digest, size = image.layer
        for method, path, expected in (
            ("GET", f"manifests/{image.tag}", of_manifest),
            ("GET", f"manifests/{image.digest}", of_manifest),
            ("HEAD", f"blobs/{digest}", Expected(size, digest, None)),
        ):
            target = f"/v2/{image.repository}/{path}"
            asked.append((request(method, target, host, {"Accept": IMAGE}), expected))
    return itertools.islice(itertools.cycle(asked), _READS)


def _ask_and_tag(state: _Scaled, meter: Meter) -> None:
    state.pushed = [
        (f"new-{next(state.serial)}", image)
        for image in itertools.islice(itertools.cycle(state.images), _TAGGED)
    ]
    with meter.measure(state.server, (_READS + _TAGGED) / 1000):
        ask_each(state.server.port, _questions(state), CONNECTIONS)
        with Wire(state.server.port) as wire:
            for tag, image in state.pushed:
                push_manifest(wire, image.repository, tag, image.manifest, image.digest)


def _tags_are_there(state: _Scaled) -> None:
    with Wire(state.server.port) as wire:
        for tag, image in state.pushed:
            path = f"/v2/{image.repository}/manifests/{tag}"
            head, body = wire.ask("GET", path, {"Accept": IMAGE})
            head.expect(200, "GET of a manifest by its new tag")
            if body != image.manifest:
                raise Unverified("A manifest that was tagged is not the one that came back.")


def _row(
    name: str,
    where: str,
    size: int,
    setup: Callable[[int, Stage], AbstractContextManager[_Scaled]],
) -> Row[_Scaled]:
    return Row(
        name=f"{name}-{size}",
        title=f"small requests, tree of {size} x the size, {where}",
        figure=Figure.CPU,
        unit="1,000 requests",
        setup=partial(setup, size),
        run=_ask_and_tag,
        verify=_tags_are_there,
        most_rounds=3,
        limit=600,
    )


ROWS = (
    *(_row("scale", "on a filesystem", size, _on_disk) for size in SIZES),
    *(_row("scale-s3", "in a bucket", size, _in_bucket) for size in SIZES),
)
