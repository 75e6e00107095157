"""skopeo: copies that keep every digest, conversions, listing and deleting."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.clients import Skopeo
from tests.support.engines import program
from tests.support.images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MIB,
    OCI_LAYER,
    Descriptor,
    Layer,
    Layout,
    layout_blobs,
    random_bytes,
    random_layer,
    sha256,
    tarball,
)
from tests.support.servers import Server


@pytest.fixture
def source(work: Path) -> Layout:
    return Layout(work / "source")


def multi_arch(layout: Layout) -> Descriptor:
    """An index of two images that share a layer, tagged `multi`, the first also `single`."""
    shared = random_layer(2 * MIB, "shared")
    images = [
        layout.image([shared, random_layer(MIB, arch)], architecture=arch)
        for arch in ("amd64", "arm64")
    ]
    index = layout.index(images)
    layout.tag(images[0], "single")
    layout.tag(index, "multi")
    return index


def test_an_image_comes_back_byte_for_byte(
    registry: Server, http: Api, skopeo: Skopeo, source: Layout, work: Path
) -> None:
    image = source.image(
        [random_layer(3 * MIB, 1), random_layer(MIB, 2, compressed=False)],
        annotations={"org.opencontainers.image.title": "größer als \u2028 ASCII"},
    )
    source.tag(image, "1")
    there = f"docker://{registry.address}/skopeo/image:1"
    skopeo.copy(source.reference("1"), there)
    skopeo.copy(there, f"oci:{work}/back:1")
    assert layout_blobs(work / "back") == layout_blobs(source.path)
    assert sha256(skopeo.raw(f"{registry.address}/skopeo/image:1")) == image["digest"]
    assert (
        sha256(skopeo.raw(f"{registry.address}/skopeo/image@{image['digest']}")) == image["digest"]
    )
    assert set(http.content_of("skopeo/image", "1")) == layout_blobs(source.path)


def test_an_index_comes_back_with_all_of_its_images(
    registry: Server, skopeo: Skopeo, source: Layout, work: Path
) -> None:
    index = multi_arch(source)
    there = f"docker://{registry.address}/skopeo/multi:1"
    skopeo.copy(source.reference("multi"), there, "--all")
    skopeo.copy(there, f"oci:{work}/back:multi", "--all")
    assert layout_blobs(work / "back") == layout_blobs(source.path)
    assert sha256(skopeo.raw(f"{registry.address}/skopeo/multi:1")) == index["digest"]

    # A client that wants one platform follows the index to it.
    skopeo.copy(there, f"oci:{work}/one:1", "--override-arch", "arm64")
    seen = skopeo("inspect", "--tls-verify=false", "--override-arch", "arm64", there).stdout
    assert json.loads(seen)["Architecture"] == "arm64"
    assert layout_blobs(work / "one") < layout_blobs(source.path)


@pytest.mark.parametrize(
    ("tag", "media_type"), [("single", DOCKER_MANIFEST), ("multi", DOCKER_LIST)]
)
def test_conversion_to_the_types_of_docker_and_back(
    registry: Server,
    http: Api,
    skopeo: Skopeo,
    source: Layout,
    work: Path,
    tag: str,
    media_type: str,
) -> None:
    multi_arch(source)
    there = f"docker://{registry.address}/skopeo/converted:{tag}"
    skopeo.convert(source.reference(tag), there, "--all", "--format", "v2s2")
    assert json.loads(http.manifest("skopeo/converted", tag))["mediaType"] == media_type
    skopeo.convert(there, f"oci:{work}/back:{tag}", "--all", "--format", "oci")
    layers = {
        layer["digest"]
        for digest, content in http.content_of("skopeo/converted", tag).items()
        if content.startswith(b"{")
        for layer in json.loads(content).get("layers", [])
    }
    assert layers
    assert layers < layout_blobs(work / "back")
    assert layers < layout_blobs(source.path)


def test_layers_of_zstd(
    registry: Server, http: Api, skopeo: Skopeo, source: Layout, work: Path
) -> None:
    plain = tarball({"zeros": bytes(MIB), "random": random_bytes(MIB, "zstd")})
    squeezed = subprocess.run(
        [program("zstd"), "-q", "-c"], input=plain, capture_output=True, check=True, timeout=60
    ).stdout
    source.tag(source.image([Layer(squeezed, sha256(plain), OCI_LAYER + "+zstd")]), "1")
    there = f"docker://{registry.address}/skopeo/zstd:1"
    skopeo.copy(source.reference("1"), there)
    assert http.blob("skopeo/zstd", sha256(squeezed)) == squeezed
    skopeo.copy(there, f"oci:{work}/back:1")
    assert layout_blobs(work / "back") == layout_blobs(source.path)


def test_compression_on_the_way(
    registry: Server, http: Api, skopeo: Skopeo, source: Layout
) -> None:
    """The digest of what is sent is known at its end only."""
    made = random_layer(2 * MIB, "plain", compressed=False)
    source.tag(source.image([made]), "1")
    there = f"docker://{registry.address}/skopeo/compressed:1"
    skopeo.convert(source.reference("1"), there, "--dest-compress-format", "gzip")
    manifest = json.loads(http.manifest("skopeo/compressed", "1"))
    layer = manifest["layers"][0]
    assert layer["mediaType"].endswith("gzip")
    assert gzip.decompress(http.blob("skopeo/compressed", layer["digest"])) == made.content


def test_inspect_list_and_delete(
    registry: Server, http: Api, skopeo: Skopeo, source: Layout
) -> None:
    multi_arch(source)
    name = f"docker://{registry.address}/skopeo/listed"
    for tag in ("v1", "v2", "v10"):
        skopeo.copy(source.reference("multi"), f"{name}:{tag}", "--all")
    other = source.image([random_layer(MIB, "other")])
    source.tag(other, "other")
    skopeo.copy(source.reference("other"), f"{name}:other")

    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"{name}:other").stdout)
    assert seen["Digest"] == other["digest"]
    assert seen["RepoTags"] == ["other", "v1", "v10", "v2"]
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", name).stdout)
    assert listed["Tags"] == ["other", "v1", "v10", "v2"]

    # skopeo deletes by digest: with the manifest go all of its tags.
    skopeo("delete", "--tls-verify=false", f"{name}:other")
    skopeo("delete", "--tls-verify=false", f"{name}:v1")
    assert http.tags("skopeo/listed") == []
    refused = skopeo("inspect", "--tls-verify=false", f"{name}:v2", check=False)
    assert refused.code != 0
    assert "manifest" in refused.stderr
    assert "unknown" in refused.stderr


def test_a_copy_between_two_repositories(
    registry: Server, http: Api, skopeo: Skopeo, source: Layout
) -> None:
    index = multi_arch(source)
    name = f"docker://{registry.address}"
    skopeo.copy(source.reference("multi"), f"{name}/skopeo/from:1", "--all")
    skopeo.copy(f"{name}/skopeo/from:1", f"{name}/skopeo/deep/er/to:1", "--all")
    assert sha256(http.manifest("skopeo/deep/er/to", "1")) == index["digest"]
    assert http.content_of("skopeo/deep/er/to", "1") == http.content_of("skopeo/from", "1")


def test_sync_of_a_repository(
    registry: Server, http: Api, skopeo: Skopeo, source: Layout, work: Path
) -> None:
    multi_arch(source)
    for tag in ("a", "b"):
        skopeo.copy(
            source.reference("multi"), f"docker://{registry.address}/skopeo/synced:{tag}", "--all"
        )
    options = ("--src-tls-verify=false", "--dest-tls-verify=false", "--all")
    here = f"{registry.address}/skopeo/synced"
    there = f"{registry.address}/skopeo/mirror"
    skopeo("sync", *options, "--src", "docker", "--dest", "docker", here, there, timeout=120)
    assert http.tags("skopeo/mirror/synced") == ["a", "b"]
    assert http.content_of("skopeo/mirror/synced", "b") == http.content_of("skopeo/synced", "b")
