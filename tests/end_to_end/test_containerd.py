"""containerd: images imported, pushed and pulled by `ctr`, one platform and several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.clients import Containerd
from tests.support.images import MIB, Layout, layout_blobs, random_layer, sha256
from tests.support.servers import Server


@pytest.fixture
def imported(containerd: Containerd, registry: Server, work: Path) -> Iterator[Layout]:
    """An index of two images, in containerd as <address>/ctr/app:multi."""
    layout = Layout(work / "layout")
    images = [
        layout.image([random_layer(2 * MIB, "both"), random_layer(MIB, arch)], architecture=arch)
        for arch in ("amd64", "arm64")
    ]
    layout.tag(layout.index(images), "multi")
    archive = layout.archive(work / "layout.tar")
    base = f"{registry.address}/ctr/app"
    containerd(
        *("images", "import", "--all-platforms", "--no-unpack", "--base-name", base, str(archive))
    )
    yield layout
    containerd.clear()


def test_every_platform_there_and_back(
    registry: Server, http: Api, containerd: Containerd, imported: Layout
) -> None:
    name = f"{registry.address}/ctr/app:multi"
    blobs = layout_blobs(imported.path)
    containerd("images", "push", "--plain-http", name)
    assert set(http.content_of("ctr/app", "multi")) == blobs

    containerd.clear()
    containerd("images", "pull", "--plain-http", "--all-platforms", name)
    assert containerd.content() == blobs
    for digest in blobs:
        assert sha256(containerd.blob(digest)) == digest


def test_one_platform_by_digest(
    registry: Server, http: Api, containerd: Containerd, imported: Layout
) -> None:
    containerd("images", "push", "--plain-http", f"{registry.address}/ctr/app:multi")
    digest = sha256(http.manifest("ctr/app", "multi"))
    containerd.clear()
    name = f"{registry.address}/ctr/app@{digest}"
    containerd("images", "pull", "--plain-http", "--platform", "linux/arm64", name)
    content = containerd.content()
    assert digest in content
    assert content < layout_blobs(imported.path)
    # The index, one manifest, one config, two layers.
    assert len(content) == 5


def test_layers_that_are_known_elsewhere_are_mounted(
    registry: Server, http: Api, containerd: Containerd, imported: Layout
) -> None:
    """The client remembers where content came from, and asks for a mount from there."""
    name = f"{registry.address}/ctr/app:multi"
    containerd("images", "push", "--plain-http", name)
    containerd.clear()
    containerd("images", "pull", "--plain-http", "--all-platforms", name)
    other = f"{registry.address}/ctr/other:1"
    containerd("images", "tag", name, other)
    containerd("images", "push", "--plain-http", other)
    assert http.content_of("ctr/other", "1") == http.content_of("ctr/app", "multi")
