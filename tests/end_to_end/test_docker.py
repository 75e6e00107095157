"""The Docker engine: build, push, pull, tag, manifest lists."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import access
from tests.support.api import Api
from tests.support.clients import Docker, random_files
from tests.support.images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MIB,
    OCI_INDEX,
    layer,
    sha256,
)
from tests.support.servers import Server


def test_what_was_pushed_is_what_is_pulled(
    registry: Server, http: Api, docker: Docker, work: Path
) -> None:
    repository = f"{registry.address}/team/app"
    image = docker.build(work / "app", random_files(4, MIB, "app"), f"{repository}:1")
    layers = docker.diff_ids(image)
    assert len(layers) == 4
    docker("push", f"{repository}:1")

    content = http.manifest("team/app", "1")
    manifest = json.loads(content)
    assert manifest["mediaType"] == DOCKER_MANIFEST
    assert manifest["config"]["digest"] == f"sha256:{image}"
    parts = http.content_of("team/app", "1")
    assert json.loads(parts[f"sha256:{image}"])["rootfs"]["diff_ids"] == layers

    docker.forget(image)
    docker("pull", f"{repository}:1")
    assert docker.image_id(f"{repository}:1") == image
    assert docker.diff_ids(f"{repository}:1") == layers
    assert docker.repo_digest(image, repository) == sha256(content)
    assert docker("image", "inspect", "--format", "{{.Size}}", image).stdout.strip() == str(4 * MIB)


def test_a_second_push_sends_no_layer(
    registry: Server, docker: Docker, http: Api, work: Path
) -> None:
    repository = f"{registry.address}/team/twice"
    docker.build(work / "twice", random_files(3, MIB, "twice"), f"{repository}:1")
    docker("push", f"{repository}:1")
    docker("tag", f"{repository}:1", f"{repository}:again")
    said = docker("push", f"{repository}:again").stdout
    assert said.count("Layer already exists") == 3
    assert http.manifest("team/twice", "1") == http.manifest("team/twice", "again")

    path = "/v2/team/twice/manifests/again"
    log = access.requests_until(registry, "team/twice", "PUT", path)
    # Three layers and the configuration, once.
    assert [line["method"] for line in log].count("PATCH") == 4


def test_a_push_to_a_second_repository_mounts_the_layers(
    registry: Server, docker: Docker, http: Api, work: Path
) -> None:
    first, second = f"{registry.address}/team/first", f"{registry.address}/other/second"
    image = docker.build(work / "mount", random_files(3, MIB, "mount"), f"{first}:1")
    docker("push", f"{first}:1")
    docker("tag", image, f"{second}:1")
    said = docker("push", f"{second}:1").stdout
    assert said.count("Mounted from team/first") == 3

    log = access.requests_until(registry, "other/second", "PUT", "/v2/other/second/manifests/1")
    mounts = [line["status"] for line in log if "mount=sha256" in line["path"]]
    assert mounts == [201, 201, 201]
    assert sum(line["bytes_in"] for line in log) < MIB
    assert http.content_of("other/second", "1") == http.content_of("team/first", "1")


def test_parallel_pushes_of_images_that_share_layers(
    registry: Server, docker: Docker, http: Api, work: Path
) -> None:
    shared = random_files(3, 4 * MIB, "shared")
    names = [f"{registry.address}/shared/app{number}:1" for number in range(5)]
    images = {
        name: docker.build(
            work / f"app{number}", [*shared, *random_files(1, MIB, f"own{number}")], name
        )
        for number, name in enumerate(names)
    }
    pushes = [docker.start("push", name) for name in names]
    for push in pushes:
        said, _ = push.communicate(timeout=120)
        assert push.returncode == 0, said
    docker.forget(*images.values())
    pulls = [docker.start("pull", name) for name in names]
    for pull in pulls:
        said, _ = pull.communicate(timeout=120)
        assert pull.returncode == 0, said
    assert {name: docker.image_id(name) for name in names} == images
    layers = [json.loads(http.manifest(f"shared/app{n}", "1"))["layers"] for n in range(5)]
    assert all(found[:3] == layers[0][:3] for found in layers)
    assert len({found[3]["digest"] for found in layers}) == 5


def test_a_manifest_list_of_docker(registry: Server, docker: Docker, http: Api, work: Path) -> None:
    repository = f"{registry.address}/team/multi"
    images = {
        arch: docker.build(work / arch, random_files(2, MIB, arch), f"{repository}:{arch}")
        for arch in ("amd64", "arm64")
    }
    for arch in images:
        docker("push", f"{repository}:{arch}")
    parts = [f"{repository}:{arch}" for arch in images]
    docker("manifest", "create", "--insecure", f"{repository}:1", *parts)
    docker("manifest", "annotate", "--arch", "arm64", f"{repository}:1", parts[1])
    said = docker("manifest", "push", "--insecure", "--purge", f"{repository}:1").stdout

    content = http.manifest("team/multi", "1")
    assert sha256(content) == said.split()[-1]
    value = json.loads(content)
    assert value["mediaType"] == DOCKER_LIST
    named = {child["platform"]["architecture"]: child["digest"] for child in value["manifests"]}
    assert named == {arch: sha256(http.manifest("team/multi", arch)) for arch in images}

    docker.forget(*images.values())
    docker("pull", f"{repository}:1")
    assert docker.image_id(f"{repository}:1") == images["amd64"]
    docker("pull", f"{repository}@{named['arm64']}")
    assert docker.image_id(f"{repository}@{named['arm64']}") == images["arm64"]
    inspected = docker("manifest", "inspect", "--insecure", f"{repository}:1").stdout
    assert json.loads(inspected)["manifests"] == value["manifests"]


def test_an_index_of_oci_images(registry: Server, docker: Docker, http: Api) -> None:
    """As buildx leaves it, with an attestation beside the image."""
    image = http.push_image("team/oci", None, [layer({"hello": b"hello"})])
    attestation = http.push_image("team/oci", None, [layer({"proof": b"{}"})], "unknown")
    attestation["platform"] = {"os": "unknown", "architecture": "unknown"}
    attestation["annotations"] = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    index = http.push_index("team/oci", "1", [image, attestation])
    assert index["mediaType"] == OCI_INDEX
    repository = f"{registry.address}/team/oci"
    docker("pull", f"{repository}:1")
    assert docker.repo_digest(f"{repository}:1", repository) == index["digest"]
    manifest = json.loads(http.manifest("team/oci", image["digest"]))
    assert f"sha256:{docker.image_id(f'{repository}:1')}" == manifest["config"]["digest"]


def test_pull_by_digest_follows_no_tag(
    registry: Server, docker: Docker, http: Api, work: Path
) -> None:
    repository = f"{registry.address}/team/moved"
    old = docker.build(work / "old", random_files(1, MIB, "old"), f"{repository}:1")
    docker("push", f"{repository}:1")
    digest = sha256(http.manifest("team/moved", "1"))
    new = docker.build(work / "new", random_files(1, MIB, "new"), f"{repository}:1")
    docker("push", f"{repository}:1")
    docker.forget(old, new)
    docker("pull", f"{repository}@{digest}")
    assert docker.image_id(f"{repository}@{digest}") == old
    docker("pull", f"{repository}:1")
    assert docker.image_id(f"{repository}:1") == new


def test_a_deleted_tag_is_refused_in_words_that_a_person_reads(
    registry: Server, docker: Docker, http: Api, work: Path
) -> None:
    repository = f"{registry.address}/team/gone"
    image = docker.build(
        work / "gone", random_files(1, MIB, "gone"), f"{repository}:1", f"{repository}:2"
    )
    docker("push", f"{repository}:1")
    docker("push", f"{repository}:2")
    http.delete("team/gone/manifests/1")
    docker.forget(image)
    refused = docker("pull", f"{repository}:1", check=False)
    assert refused.code != 0
    assert "manifest" in refused.stderr
    assert "not found" in refused.stderr or "unknown" in refused.stderr
    assert "team/gone:1" in refused.stderr
    assert http.tags("team/gone") == ["2"]
    docker("pull", "-a", repository)
    assert docker.image_id(f"{repository}:2") == image
