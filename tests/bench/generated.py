"""`python -m tests.bench.generated`: what a collection takes of a bucket of millions of objects.

No store here can be filled with so many, so keys and manifests are computed when they are asked for, and
what the collector writes goes to a directory. It is the collector itself that runs: it looks at everything,
and condemns what it finds. Prints a line of JSON; ends with 1 if it took more memory than is promised.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from registry_gc import brakes
from registry_gc.collect import collect
from registry_gc.options import Options
from registry_gc.report import Report

from storage import layout
from storage.collection.timing import Timing
from storage.driver import Child, Leaf, ObjectInfo
from storage.driver_errors import ObjectNotFound
from storage.drivers.filesystem import FilesystemDriver

LAYERS = 8
BLOBS_PER_IMAGE = LAYERS + 2
OBJECTS_PER_IMAGE = BLOBS_PER_IMAGE + (LAYERS + 1) + 3
IMAGES_PER_REPOSITORY = 100
SHARDS = 256
LOST = 20
"""One image in so many has lost its link, and is garbage."""
PROMISED = 300
"""MB of resident memory."""
OLD = 1_600_000_000.0


class GeneratedBucket(FilesystemDriver):
    """`images` images of eight layers that no other has. Blob `n` is of image `n // BLOBS_PER_IMAGE`."""

    remote = True

    def __init__(self, root: Path, images: int) -> None:
        super().__init__(root)
        self._images = images
        self._blobs = images * BLOBS_PER_IMAGE

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        if prefix == layout.REPOSITORIES:
            return (info for info in self._links() if info.key > after)
        if prefix.startswith(layout.BLOBS):
            return self._contents(prefix)
        return super().walk(prefix, after=after)

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        found = self.walk(prefix)
        return [Leaf(info.key.split("/")[-2], info.size, info.modified) for info in found]

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        return iter(()) if prefix == layout.REPOSITORIES else super().list(prefix, after=after)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if key.startswith(layout.BLOBS):
            return _manifest(_number(key.split("/")[-2]))
        return super().read(key, offset=offset, length=length)

    def write(self, key: str, data: bytes) -> None:
        """What is kept for the next run is as large as all manifests, and there is no next run."""
        if not key.startswith(layout.REFERENCES):
            super().write(key, data)

    def _contents(self, prefix: str) -> Iterator[ObjectInfo]:
        """Of one shard, or of all."""
        algorithm, _, shard = prefix.removeprefix(f"{layout.BLOBS}/").partition("/")
        if algorithm != "sha256":
            return
        for each in range(SHARDS) if not shard else [int(shard, 16)]:
            for number in range(each, self._blobs, SHARDS):
                encoded = _hex(number)
                yield ObjectInfo(
                    f"{layout.BLOBS}/sha256/{encoded[:2]}/{encoded}/data", 4_600_000, OLD
                )

    def _links(self) -> Iterator[ObjectInfo]:
        for image in range(self._images):
            place = f"{layout.REPOSITORIES}/team/app-{image // IMAGES_PER_REPOSITORY:09d}"
            manifest, *others = (_hex(number) for number in _blobs_of(image))
            for encoded in others:
                yield ObjectInfo(f"{place}/_layers/sha256/{encoded}/link", 71, OLD)
            if image % LOST:
                revision = f"{place}/_manifests/revisions/sha256/{manifest}/link"
                tag = f"{place}/_manifests/tags/v{image}"
                yield ObjectInfo(revision, 71, OLD)
                yield ObjectInfo(f"{tag}/current/link", 71, OLD)
                yield ObjectInfo(f"{tag}/index/sha256/{manifest}/link", 71, OLD)


def _blobs_of(image: int) -> range:
    """The manifest first, then its config, then its layers."""
    return range(image * BLOBS_PER_IMAGE, (image + 1) * BLOBS_PER_IMAGE)


def _hex(number: int) -> str:
    """Not a hash, but spread over the shards like one, and in order within each."""
    return f"{number % SHARDS:02x}{number // SHARDS:062x}"


def _number(encoded: str) -> int:
    return int(encoded[2:], 16) * SHARDS + int(encoded[:2], 16)


def _manifest(number: int) -> bytes:
    image, place = divmod(number, BLOBS_PER_IMAGE)
    if place:
        raise ObjectNotFound(f"{number} is no manifest")
    config, *layers = (
        {"mediaType": "application/x", "digest": f"sha256:{_hex(blob)}", "size": 4_600_000}
        for blob in _blobs_of(image)[1:]
    )
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def look(objects: int, directory: Path) -> Report:
    """One run over a bucket of so many objects, or a few less."""
    images = objects // OBJECTS_PER_IMAGE
    driver = GeneratedBucket(directory, images)
    driver.prepare()
    brakes.remember(driver, images * BLOBS_PER_IMAGE)  # a later run lists many shards at once
    at_once = Timing(view=0, section=0, lag=0)
    return collect(driver, Options(timing=at_once, threads=4))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.generated", description=__doc__)
    parser.add_argument("--objects", type=int, default=50_000_000)
    parser.add_argument("--directory", help="for what is spilled: 120 bytes an object")
    asked = parser.parse_args()
    tempfile.tempdir = asked.directory
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as place:
        report = look(asked.objects, Path(place))
    used = resource.getrusage(resource.RUSAGE_SELF)
    memory = used.ru_maxrss * 1024 / 1e6
    figures = {
        "objects": asked.objects,
        "manifests": report.totals.manifests,
        "blobs": report.totals.blobs,
        "condemned": report.condemned_blobs,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_rss_mb": round(memory, 1),
        "promised_mb": PROMISED,
    }
    print(json.dumps(figures))
    return 1 if memory > PROMISED else 0


if __name__ == "__main__":
    sys.exit(main())
