"""podman and buildah: OCI images built, pushed and pulled, and indexes made of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.api import Api
from tests.support.clients import Client, Podman, context, random_files
from tests.support.images import MIB, OCI_INDEX, OCI_MANIFEST, random_bytes, sha256
from tests.support.servers import Server

INSECURE = "--tls-verify=false"


def test_podman_pulls_what_it_pushed(
    registry: Server, http: Api, podman: Podman, work: Path
) -> None:
    repository = f"{registry.address}/podman/app"
    image = podman.build(work / "app", random_files(3, MIB, "podman"), f"{repository}:1")
    layers = podman.diff_ids(image)
    assert len(layers) == 3
    podman("push", "-q", INSECURE, f"{repository}:1")

    content = http.manifest("podman/app", "1")
    value = json.loads(content)
    assert value["mediaType"] == OCI_MANIFEST
    assert value["config"]["digest"] == f"sha256:{image}"
    http.content_of("podman/app", "1")

    podman.forget(image)
    podman("pull", "-q", INSECURE, f"{repository}@{sha256(content)}")
    assert podman.image_id(f"{repository}@{sha256(content)}") == image
    assert podman.diff_ids(image) == layers
    assert podman.repo_digest(image, repository) == sha256(content)


def test_buildah_from_scratch(
    registry: Server, http: Api, buildah: Client, podman: Podman, work: Path
) -> None:
    payload = random_bytes(2 * MIB, "buildah")
    (work / "payload").write_bytes(payload)
    name = f"{registry.address}/buildah/app:1"
    container = buildah("from", "scratch").stdout.strip()
    buildah("copy", "-q", container, str(work / "payload"), "/opt/payload")
    buildah("config", "--env", "WHO=buildah", container)
    image = buildah("commit", "-q", "--rm", container, name).stdout.strip()
    buildah("push", "-q", INSECURE, name)
    buildah("rmi", "-f", image)

    manifest = json.loads(http.manifest("buildah/app", "1"))
    assert manifest["config"]["digest"] == f"sha256:{image}"
    podman("pull", "-q", INSECURE, name)
    assert podman.image_id(name) == image
    created = podman("create", name, "/none").stdout.strip()
    podman("cp", f"{created}:/opt/payload", str(work / "back"))
    podman("rm", created)
    assert (work / "back").read_bytes() == payload


def test_a_build_cache_of_buildah(registry: Server, http: Api, buildah: Client, work: Path) -> None:
    """Each step of a build is an image under a tag of its own, pulled instead of built again."""
    cache = f"{registry.address}/buildah/cache"
    source = str(context(work / "cached", random_files(2, MIB, "cached")))
    options = ("--layers", "--isolation", "chroot", INSECURE, "--cache-from", cache)
    built = buildah("build", *options, "--cache-to", cache, "-t", "cached", source)
    assert "Pushing cache" in built.text
    tags = http.tags("buildah/cache")
    assert tags
    for tag in tags:
        http.content_of("buildah/cache", tag)
    image = buildah("images", "-q", "--no-trunc", "cached").stdout.strip()
    buildah("rmi", "-a", "-f")
    again = buildah("build", *options, "-t", "cached", source)
    assert "Cache pulled from remote" in again.text
    assert buildah("images", "-q", "--no-trunc", "cached").stdout.strip() == image


def test_a_manifest_list_of_podman(registry: Server, http: Api, podman: Podman, work: Path) -> None:
    repository = f"{registry.address}/podman/multi"
    images = {
        arch: podman.build(work / arch, random_files(1, MIB, f"p{arch}"), f"{repository}:{arch}")
        for arch in ("amd64", "arm64")
    }
    listed = "localhost/podman-multi"
    podman("manifest", "create", listed)
    for arch, image in images.items():
        podman("manifest", "add", "--arch", arch, listed, f"containers-storage:{image}")
    digests = work / "digest"
    podman(
        *("manifest", "push", "-q", "--all", INSECURE, "--digestfile", str(digests)),
        *(listed, f"docker://{repository}:1"),
    )
    content = http.manifest("podman/multi", "1")
    value = json.loads(content)
    assert value["mediaType"] == OCI_INDEX
    assert sha256(content) == digests.read_text().strip()
    assert {child["platform"]["architecture"] for child in value["manifests"]} == set(images)
    http.content_of("podman/multi", "1")

    podman("manifest", "rm", listed)
    podman.forget(*images.values())
    podman("pull", "-q", INSECURE, "--arch", "arm64", f"{repository}@{sha256(content)}")
    assert podman.image_id(f"{repository}@{sha256(content)}") == images["arm64"]


def test_podman_search_lists_tags(registry: Server, http: Api, podman: Podman, work: Path) -> None:
    name = f"{registry.address}/podman/searched"
    podman.build(work / "searched", random_files(1, 1000, "s"), f"{name}:1", f"{name}:2")
    for tag in ("1", "2"):
        podman("push", "-q", INSECURE, f"{name}:{tag}")
    said = podman("search", INSECURE, "--list-tags", name).stdout
    assert [line.split() for line in said.splitlines()[1:]] == [[name, "1"], [name, "2"]]
