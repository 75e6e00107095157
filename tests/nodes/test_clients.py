"""docker and skopeo, through each balancer, onto two nodes that share their storage and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.nodes.conftest import ONE_MACHINE, Balancing, Placing, sound
from tests.support import access
from tests.support.balancers import ACCELERATED, BALANCERS
from tests.support.clients import Docker, Skopeo, random_files, wait_for
from tests.support.images import MIB, Layout, layout_blobs, random_layer, sha256
from tests.support.nodes import Node, nodes

LARGE = 48 * MIB
"""More than goes to a bucket in one request."""


@pytest.fixture(scope="module", params=ONE_MACHINE)
def both(request: pytest.FixtureRequest, placing: Placing) -> Iterator[list[Node]]:
    place = placing(request.param)
    with nodes(place, **ACCELERATED if place.root else {}) as running:
        yield running
    sound(place, *running)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)


def shared_by(both: list[Node], repository: str) -> None:
    """Either node had its part in the pushes, and in the pulls."""

    def had(node: Node, *methods: str) -> bool:
        lines = access.requests(node.server, repository=repository)
        return any(line["method"] in methods and "/blobs/" in line["path"] for line in lines)

    for node in both:
        wait_for(partial(had, node, "POST", "PATCH", "PUT"), "a part of the pushes")
        wait_for(partial(had, node, "GET"), "a part of the pulls")


@pytest.mark.parametrize("balancer", BALANCERS)
def test_docker(
    both: list[Node], balancing: Balancing, docker: Docker, work: Path, balancer: str
) -> None:
    front = balancing(balancer, both)
    name = f"clients/docker-{balancer}"
    reference = f"{front.address}/{name}:1"
    files = [*random_files(4, MIB, balancer), *random_files(1, LARGE, f"{balancer}-large")]
    image = docker.build(work / "image", files, reference)
    layers = docker.diff_ids(image)
    docker("push", reference)
    docker("tag", image, f"{front.address}/{name}:2")
    said = docker("push", f"{front.address}/{name}:2").stdout
    assert said.count("Layer already exists") == len(layers)

    docker.forget(image)
    docker("pull", reference)
    assert docker.image_id(reference) == image
    assert docker.diff_ids(reference) == layers
    docker.forget(image)
    shared_by(both, name)


@pytest.mark.parametrize("balancer", BALANCERS)
def test_skopeo(
    both: list[Node], balancing: Balancing, skopeo: Skopeo, work: Path, balancer: str
) -> None:
    front = balancing(balancer, both)
    name = f"clients/skopeo-{balancer}"
    source = Layout(work / "source")
    images = [
        source.image(
            [random_layer(MIB, f"{balancer}-{arch}"), random_layer(LARGE, f"{balancer}-large")],
            architecture=arch,
        )
        for arch in ("amd64", "arm64")
    ]
    index = source.index(images)
    source.tag(index, "1")
    there = f"docker://{front.address}/{name}:1"
    skopeo.copy(source.reference("1"), there, "--all")
    skopeo.copy(there, f"oci:{work}/back:1", "--all")
    assert layout_blobs(work / "back") == layout_blobs(source.path)
    assert sha256(skopeo.raw(f"{front.address}/{name}:1")) == index["digest"]

    other = f"docker://{front.address}/{name}-copy:1"
    skopeo.copy(there, other, "--all")
    skopeo("delete", "--tls-verify=false", other)
    gone = skopeo("inspect", "--tls-verify=false", "--raw", other, check=False)
    assert gone.code != 0
    assert "manifest unknown" in gone.text
    shared_by(both, name)
