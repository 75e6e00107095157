"""Rows of many small requests."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench.content import Content, hashed
from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.swarm import Expected, ask
from tests.bench.transfers import pull_blob, push_manifest, push_patch, push_put
from tests.bench.wire import Unverified, Wire, request
from tests.support.servers import Server

CONNECTIONS = 8
DOCKER_UPLOADS = 5
"""How many layers docker pushes at a time."""

_REPOSITORY = "bench/app"
_TAG = "1"
_LAYER_SIZE = 50_000
_AGAIN = 5
"""How often an image that is there is pushed, in one sample."""
_IMAGE = "application/vnd.oci.image.manifest.v1+json"


def image(layers: Sequence[Content], config: Content) -> tuple[bytes, str]:
    """The manifest of an image, and its digest."""

    def descriptor(content: Content, kind: str) -> dict[str, object]:
        return {"mediaType": kind, "digest": content.digest, "size": content.size}

    manifest = {
        "schemaVersion": 2,
        "mediaType": _IMAGE,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [
            descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers
        ],
    }
    data = json.dumps(manifest, indent=3).encode()
    return data, f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(slots=True)
class _Image:
    server: Server
    count: int
    manifest: bytes
    digest: str
    layer: Content


@contextlib.contextmanager
def _with_image(stage: Stage) -> Iterator[_Image]:
    """An image of ten layers, whose manifest is about 2 KB."""
    with stage.contender.start(stage.directory) as server:
        layers = [Content(1000) for _ in range(10)]
        config = Content(2000)
        manifest, digest = image(layers, config)
        with Wire(server.port) as wire:
            for content in (*layers, config):
                push_put(wire, _REPOSITORY, content)
            push_manifest(wire, _REPOSITORY, _TAG, manifest, digest)
        yield _Image(server, stage.scale.requests, manifest, digest, layers[0])


def _repeated(
    method: str, path: Callable[[_Image], str], *, of_blob: bool = False
) -> Callable[[_Image, Meter], None]:
    def run(state: _Image, meter: Meter) -> None:
        accept = {} if of_blob else {"Accept": _IMAGE}
        port = state.server.port
        question = request(method, path(state), f"127.0.0.1:{port}", accept)
        expected = Expected(
            length=state.layer.size if of_blob else len(state.manifest),
            digest=state.layer.digest if of_blob else state.digest,
            body=None if method == "HEAD" else state.manifest,
        )
        with meter.measure(state.server, state.count / 1000):
            taken = ask(port, question, expected, count=state.count, connections=CONNECTIONS)
        cuts = statistics.quantiles(taken, n=100)
        meter.note(p50_ms=cuts[49] * 1000, p99_ms=cuts[98] * 1000)

    return run


def _answers_were_checked(_state: _Image) -> None:
    """Every answer's status, length, digest and body were checked as it came: `Expected.check`."""


def _by_tag(_state: _Image) -> str:
    return f"/v2/{_REPOSITORY}/manifests/{_TAG}"


def _by_digest(state: _Image) -> str:
    return f"/v2/{_REPOSITORY}/manifests/{state.digest}"


def _blob(state: _Image) -> str:
    return f"/v2/{_REPOSITORY}/blobs/{state.layer.digest}"


@dataclass(slots=True)
class _Layers:
    server: Server
    count: int
    pushed: list[Content] = field(default_factory=list)
    manifest: bytes = b""
    serial: Iterator[int] = field(default_factory=itertools.count)
    repository: str = ""


@contextlib.contextmanager
def _empty(stage: Stage) -> Iterator[_Layers]:
    with stage.contender.start(stage.directory) as server:
        yield _Layers(server, stage.scale.layers)


def _push_layers(state: _Layers, meter: Meter) -> None:
    """As docker does: HEAD, POST, PATCH, PUT for each layer, a few layers at a time; then the manifest."""
    state.repository = f"bench/layers-{next(state.serial)}"
    config, *layers = state.pushed = [Content(_LAYER_SIZE) for _ in range(state.count + 1)]
    state.manifest, digest = image(layers, config)
    port, repository = state.server.port, state.repository

    def lane(contents: Sequence[Content]) -> None:
        with Wire(port) as wire:
            for content in contents:
                head, _ = wire.ask("HEAD", f"/v2/{repository}/blobs/{content.digest}")
                head.expect(404, "HEAD of a layer that is new")
                push_patch(wire, repository, content)

    with meter.measure(state.server, state.count / 1000):
        with ThreadPoolExecutor(DOCKER_UPLOADS) as pool:
            lanes = [state.pushed[start::DOCKER_UPLOADS] for start in range(DOCKER_UPLOADS)]
            list(pool.map(lane, lanes))
        with Wire(port) as wire:
            push_manifest(wire, repository, _TAG, state.manifest, digest)


@contextlib.contextmanager
def _with_layers(stage: Stage) -> Iterator[_Layers]:
    with _empty(stage) as state:
        _push_layers(state, Meter())
        yield state


def _push_again(state: _Layers, meter: Meter) -> None:
    """As docker does with an image that is there: HEAD of each layer, then the manifest."""
    digest = hashed([state.manifest])
    port, repository = state.server.port, state.repository

    def lane(contents: Sequence[Content]) -> None:
        with Wire(port) as wire:
            for content in contents:
                head, _ = wire.ask("HEAD", f"/v2/{repository}/blobs/{content.digest}")
                head.expect(200, "HEAD of a layer that is there")
                head.expect_digest(content.digest, "HEAD of a layer")
                if head.length != content.size:
                    raise Unverified(
                        f"A layer of {content.size} bytes is said to have {head.length}."
                    )

    with meter.measure(state.server, _AGAIN * len(state.pushed) / 1000):
        for _ in range(_AGAIN):
            with ThreadPoolExecutor(DOCKER_UPLOADS) as pool:
                lanes = [state.pushed[start::DOCKER_UPLOADS] for start in range(DOCKER_UPLOADS)]
                list(pool.map(lane, lanes))
            with Wire(port) as wire:
                push_manifest(wire, repository, _TAG, state.manifest, digest)


def _layers_come_back(state: _Layers) -> None:
    for content in state.pushed:
        pull_blob(state.server.port, state.repository, content)
    with Wire(state.server.port) as wire:
        path = f"/v2/{state.repository}/manifests/{_TAG}"
        head, body = wire.ask("GET", path, {"Accept": _IMAGE})
    head.expect(200, "GET of the manifest")
    if body != state.manifest:
        raise Unverified("The manifest that came back is not the one that was pushed.")


def _requests(
    name: str, title: str, run: Callable[[_Image, Meter], None], target: Target | None = None
) -> Row[_Image]:
    return Row(
        name=name,
        title=title,
        figure=Figure.CPU,
        unit="1,000 requests",
        setup=_with_image,
        run=run,
        verify=_answers_were_checked,
        target=target,
    )


_SMALL_TARGET = Target(ratio=1 / 12, figure=0.1)

ROWS = (
    _requests("manifest-tag", "GET of a manifest by tag", _repeated("GET", _by_tag), _SMALL_TARGET),
    _requests(
        "manifest-digest",
        "GET of a manifest by digest",
        _repeated("GET", _by_digest),
        _SMALL_TARGET,
    ),
    _requests(
        "manifest-head", "HEAD of a manifest by tag", _repeated("HEAD", _by_tag), _SMALL_TARGET
    ),
    _requests("blob-head", "HEAD of a blob", _repeated("HEAD", _blob, of_blob=True), _SMALL_TARGET),
    Row(
        name="small-layers",
        title="push of an image of 200 layers of 50 KB",
        figure=Figure.CPU,
        unit="1,000 layers",
        setup=_empty,
        run=_push_layers,
        verify=_layers_come_back,
    ),
    Row(
        name="push-existing",
        title="push of an image of 200 layers that is there",
        figure=Figure.CPU,
        unit="1,000 layers",
        setup=_with_layers,
        run=_push_again,
        verify=_layers_come_back,
    ),
)
