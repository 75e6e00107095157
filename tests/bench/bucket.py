"""Rows with the images in a bucket: a Ceph gateway of the row's own, on which each side has a bucket.

What is asked of the store is counted by the store's own log, so nothing stands between that would
slow either side. What a side puts off counts too, if it does it within SETTLE seconds.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.bench.content import MIB, Content
from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.small import image
from tests.bench.transfers import pull_blob, push_manifest, push_patch
from tests.bench.wire import AGENT, Unverified, Wire
from tests.support.ceph import Gateway, ceph_gateway
from tests.support.s3 import S3Store
from tests.support.servers import Server

REPOSITORY = "bench/bucket"
CLIENTS = 8
LAYERS = 8
LAYER_SIZE = 50_000
CONFIG_SIZE = 2_000
REPOSITORIES = 25
"""Among which the images are spread."""
SETTLE = 3.0
"""Seconds: longer than any deletion is put off."""
WARMING = 16
"""Pushes before the first sample: each worker is to have seen how the store makes copies."""
WARMING_SIZE = 24 * MIB
GB = 1e9

_PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph")
_THROUGHPUT = Target(ratio=1 / 1.5)
_REQUESTS = Target(ratio=1 / 3)
_IMAGE = "application/vnd.oci.image.manifest.v1+json"


class _Shared:
    """One gateway for both sides of a row: the first that comes starts it, the last that goes stops it."""

    def __init__(self) -> None:
        self._users = 0
        self._running = contextlib.ExitStack()
        self._gateway: Gateway | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[Gateway]:
        if self._gateway is None:
            if lacking := [name for name in _PROGRAMS if shutil.which(name) is None]:
                raise Unverified(f"There is no {lacking[0]}; install radosgw and Ceph's daemons.")
            place = self._running.enter_context(
                tempfile.TemporaryDirectory(prefix="holdfast-bench-ceph-")
            )
            starting = ceph_gateway(Path(place), log_requests=True)
            self._gateway = self._running.enter_context(starting)
        self._users += 1
        try:
            yield self._gateway
        finally:
            self._users -= 1
            if not self._users:
                self._gateway = None
                self._running.close()


shared = _Shared()


class Requests:
    """Counts what a registry asked of one bucket, by the gateway's log; what the bench asks is left out."""

    def __init__(self, log: Path, bucket: str) -> None:
        self._log = log
        self._line = re.compile(
            rb'^.* beast: .*?"[A-Z]+ /'
            + bucket.encode()
            + rb'[/? ][^"]*" \d+ \d+ \S+ "(?!'
            + AGENT.encode()
            + rb'")',
            re.MULTILINE,
        )
        self._read = log.stat().st_size

    def count(self) -> int:
        """Since the last time."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rpartition(b"\n")[0] + b"\n" if b"\n" in new else b""
        self._read += len(whole)
        return len(self._line.findall(whole))


@dataclass(slots=True)
class Side:
    """One contender on its bucket."""

    server: Server
    store: S3Store
    bucket: str
    requests: Requests
    stage: Stage
    content: Content = field(default_factory=lambda: Content(0))
    images: Sequence[Image] = ()
    serial: int = 0

    @contextlib.contextmanager
    def measure(self, meter: Meter, amount: float) -> Iterator[None]:
        self.requests.count()
        with meter.measure(self.server, amount):
            yield
        time.sleep(SETTLE)
        meter.note(requests=self.requests.count())


@dataclass(frozen=True, slots=True)
class Image:
    repository: str
    tag: str
    blobs: tuple[Content, ...]
    manifest: bytes
    digest: str

    @classmethod
    def new(cls, repository: str, tag: str) -> Image:
        config, *layers = Content(CONFIG_SIZE), *(Content(LAYER_SIZE) for _ in range(LAYERS))
        manifest, digest = image(layers, config)
        return cls(repository, tag, (*layers, config), manifest, digest)


@contextlib.contextmanager
def side_of(stage: Stage, *, redirect: bool) -> Iterator[Side]:
    with shared.use() as gateway, gateway.store.fresh("bench") as bucket:
        storage = {
            "s3": gateway.store.parameters(bucket, secure=False),
            "redirect": {"disable": not redirect},
        }
        with stage.contender.start(stage.directory, storage) as server:
            yield Side(server, gateway.store, bucket, Requests(gateway.log, bucket), stage)


@contextlib.contextmanager
def _empty(stage: Stage) -> Iterator[Side]:
    """No sample is the first push to the bucket, nor of the server: either is slower."""
    with side_of(stage, redirect=False) as side:
        for _ in range(WARMING):
            with Wire(side.server.port) as wire:
                push_patch(wire, REPOSITORY, Content(WARMING_SIZE))
        yield side


@contextlib.contextmanager
def _empty_for_images(stage: Stage) -> Iterator[Side]:
    with side_of(stage, redirect=True) as side:
        yield side


@contextlib.contextmanager
def _with_blob(stage: Stage, *, redirect: bool = False) -> Iterator[Side]:
    with side_of(stage, redirect=redirect) as side:
        side.content = Content(stage.scale.bulk)
        with Wire(side.server.port) as wire:
            push_patch(wire, REPOSITORY, side.content)
        yield side


@contextlib.contextmanager
def _with_images(stage: Stage) -> Iterator[Side]:
    with side_of(stage, redirect=True) as side:
        side.images = _made(stage.scale.images, "pull")
        _each(side.server.port, side.images, Client.push)
        _each(side.server.port, side.images, Client.pull)
        yield side


def _push_blob(side: Side, meter: Meter) -> None:
    side.content = Content(side.stage.scale.bulk)
    assert side.content.digest  # hashed here, not while the server is measured
    with Wire(side.server.port) as wire, side.measure(meter, side.content.size / GB):
        push_patch(wire, REPOSITORY, side.content)


def _pull_blob_back(side: Side) -> None:
    """Compare what was stored with what was sent, then give the store its memory back."""
    pull_blob(side.server.port, REPOSITORY, side.content)
    encoded = side.content.digest.partition(":")[2]
    for key in side.store.keys(side.bucket, f"docker/registry/v2/blobs/sha256/{encoded[:2]}"):
        side.store.client().delete_object(Bucket=side.bucket, Key=key)


def _pull_blobs(side: Side, meter: Meter) -> None:
    pulls = side.stage.scale.pulls
    with side.measure(meter, pulls * side.content.size / GB):
        for _ in range(pulls):
            pull_blob(side.server.port, REPOSITORY, side.content)


def _pull_blobs_elsewhere(side: Side, meter: Meter) -> None:
    pulls = side.stage.scale.pulls
    with side.measure(meter, pulls * side.content.size / GB):
        for _ in range(pulls):
            with Client(side.server.port) as client:
                client.pull_blob(REPOSITORY, side.content)


def _made(count: int, stem: str) -> list[Image]:
    """Images whose every blob is new, their digests known."""
    return [
        Image.new(f"bench/{stem}-{number % REPOSITORIES}", f"v{number}") for number in range(count)
    ]


def _each(port: int, images: Sequence[Image], action: Callable[[Client, Image], None]) -> None:
    """`action` for every image, by CLIENTS at a time, each of which takes one after the other."""

    def lane(mine: Sequence[Image]) -> None:
        with Client(port) as client:
            for made in mine:
                action(client, made)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lane, [images[start::CLIENTS] for start in range(CLIENTS)]))


class Client:
    """A connection to the server, and one to each place that it redirects to."""

    def __init__(self, port: int) -> None:
        self.wire = Wire(port)
        self._elsewhere: dict[int, Wire] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for wire in (self.wire, *self._elsewhere.values()):
            wire.socket.close()

    def push(self, made: Image) -> None:
        """As docker does with each blob: HEAD, POST, PATCH, PUT; then the manifest."""
        for blob in made.blobs:
            head, _ = self.wire.ask("HEAD", f"/v2/{made.repository}/blobs/{blob.digest}")
            head.expect(404, "HEAD of a layer that is new")
            push_patch(self.wire, made.repository, blob)
        push_manifest(self.wire, made.repository, made.tag, made.manifest, made.digest)

    def pull(self, made: Image) -> None:
        """The manifest by its tag, then each blob from wherever it is. Raises Unverified."""
        path = f"/v2/{made.repository}/manifests/{made.tag}"
        head, body = self.wire.ask("GET", path, {"Accept": _IMAGE})
        head.expect(200, "GET of a manifest").expect_digest(made.digest, "GET of a manifest")
        if body != made.manifest:
            raise Unverified("A manifest is not the one that was pushed.")
        for blob in made.blobs:
            self.pull_blob(made.repository, blob)

    def pull_blob(self, repository: str, blob: Content) -> None:
        """From wherever it is. Raises Unverified."""
        wire = self.wire
        wire.send_head("GET", f"/v2/{repository}/blobs/{blob.digest}")
        head = wire.read_head()
        if head.status in (302, 303, 307):
            wire.read_body(head)
            place = urlsplit(head.headers["location"])
            assert place.port is not None
            wire = self._elsewhere.get(place.port) or Wire(place.port)
            self._elsewhere[place.port] = wire
            wire.send_head("GET", f"{place.path}?{place.query}")
            head = wire.read_head()
        wire.read_content(head.expect(200, "GET of a blob"), blob)


def _push_images(side: Side, meter: Meter) -> None:
    side.serial += 1
    side.images = _made(side.stage.scale.images, f"push-{side.serial}")
    with side.measure(meter, len(side.images)):
        _each(side.server.port, side.images, Client.push)


def _pull_images(side: Side, meter: Meter) -> None:
    with side.measure(meter, len(side.images)):
        _each(side.server.port, side.images, Client.pull)


def _images_come_back(side: Side) -> None:
    _each(side.server.port, side.images, Client.pull)


def _were_checked(_side: Side) -> None:
    """Every byte was compared while it came: `Wire.read_content`."""


def _row(
    name: str,
    title: str,
    unit: str,
    setup: Callable[[Stage], contextlib.AbstractContextManager[Side]],
    run: Callable[[Side, Meter], None],
    verify: Callable[[Side], None],
    target: Target | None = None,
    requests: Target | None = None,
    rounds: int | None = None,
) -> Row[Side]:
    return Row(
        name=name,
        title=title,
        figure=Figure.WALL,
        unit=unit,
        setup=setup,
        run=run,
        verify=verify,
        target=target,
        most_rounds=rounds,
        further=((Figure.CPU, None), (Figure.REQUESTS, requests)),
        limit=900,
    )


ROWS = (
    _row(
        "s3-push",
        "push of 1 GiB to a bucket: POST, chunked PATCH, PUT",
        "GB",
        _empty,
        _push_blob,
        _pull_blob_back,
        _THROUGHPUT,
        _REQUESTS,
    ),
    _row(
        "s3-pull",
        "pull of 1 GiB from a bucket, through the registry",
        "GB",
        _with_blob,
        _pull_blobs,
        _were_checked,
    ),
    _row(
        "s3-pull-redirect",
        "pull of 1 GiB from a bucket, by a redirect",
        "GB",
        partial(_with_blob, redirect=True),
        _pull_blobs_elsewhere,
        _were_checked,
    ),
    _row(
        "s3-images-push",
        "push of 500 images of 8 layers to a bucket",
        "image",
        _empty_for_images,
        _push_images,
        _images_come_back,
        _THROUGHPUT,
        _REQUESTS,
        rounds=2,
    ),
    _row(
        "s3-images-pull",
        "pull of 500 images of 8 layers from a bucket, by redirects",
        "image",
        _with_images,
        _pull_images,
        _were_checked,
        rounds=2,
    ),
)
