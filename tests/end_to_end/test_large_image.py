"""An image of 20 layers and 2 GB: pushed and pulled, in memory that does not grow with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.bench.processes import peak, reset_peaks
from tests.support.api import Api
from tests.support.clients import Docker, Skopeo
from tests.support.images import (
    MIB,
    Layer,
    Layout,
    layer,
    layout_blobs,
    random_bytes,
)
from tests.support.servers import Server

LAYERS = 20
SIZE = 100 * MIB
WORKER_LIMIT = 150 * 10**6


def large_layers() -> Iterator[Layer]:
    """Not compressed, so that the registry is what is busy. They differ from their first block on."""
    body = random_bytes(SIZE, "large")
    for number in range(LAYERS):
        yield layer({f"layer-{number}": body}, compressed=False)


def test_an_image_of_two_gigabytes(
    registry: Server, http: Api, skopeo: Skopeo, docker: Docker, work: Path
) -> None:
    source = Layout(work / "source")
    image = source.image(large_layers())
    source.tag(image, "1")
    reset_peaks(registry.process.pid)
    there = f"{registry.address}/large/image:1"

    skopeo.copy(source.reference("1"), f"docker://{there}")
    manifest = json.loads(http.manifest("large/image", "1"))
    assert len(manifest["layers"]) == LAYERS
    assert sum(part["size"] for part in manifest["layers"]) > 2 * 10**9
    assert peak(registry.process.pid).largest < WORKER_LIMIT

    skopeo.copy(f"docker://{there}", f"oci:{work}/back:1")
    assert layout_blobs(work / "back") == layout_blobs(source.path)
    assert peak(registry.process.pid).largest < WORKER_LIMIT

    docker("pull", there, timeout=280)
    assert f"sha256:{docker.image_id(there)}" == manifest["config"]["digest"]
    assert len(docker.diff_ids(there)) == LAYERS
    assert peak(registry.process.pid).largest < WORKER_LIMIT
    docker.forget(there)
