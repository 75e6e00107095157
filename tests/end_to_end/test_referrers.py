"""Signatures, SBOMs and whatever else refers to an image: pushed as oras and cosign do, and found."""

from __future__ import annotations

import json

import pytest

from tests.support.api import Api
from tests.support.clients import Docker, Skopeo
from tests.support.images import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    artifact,
    descriptor,
    dumps,
    layer,
    sha256,
)
from tests.support.servers import Server

NAME = "signed/app"
SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
SBOM = "application/spdx+json"


@pytest.fixture
def subject(http: Api, request: pytest.FixtureRequest) -> Descriptor:
    """An image of the test's own."""
    image = http.push_image(NAME, request.node.name, [layer({"who": request.node.name.encode()})])
    image.pop("platform")
    return image


def push_artifact(http: Api, subject: Descriptor, kind: str, content: bytes) -> str:
    """As `oras attach` does; the artifact's digest."""
    http.push_empty(NAME)
    http.push_blob(NAME, content)
    manifest = artifact(
        subject,
        kind,
        [descriptor(kind, content)],
        annotations={"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
    )
    answer = http.client.put(
        f"/v2/{NAME}/manifests/{sha256(manifest)}",
        content=manifest,
        headers={"Content-Type": OCI_MANIFEST},
    )
    assert answer.status_code == 201, answer.text
    # Without this a client keeps a fallback tag, as it would for a registry without the API.
    assert answer.headers["OCI-Subject"] == subject["digest"]
    return sha256(manifest)


def test_referrers_are_listed_and_filtered(http: Api, subject: Descriptor) -> None:
    signature = push_artifact(http, subject, SIGNATURE, b"signature")
    sbom = push_artifact(http, subject, SBOM, b'{"spdx": 1}')
    found = {entry["digest"]: entry for entry in http.referrers(NAME, subject["digest"])}
    assert set(found) == {signature, sbom}
    assert found[sbom]["artifactType"] == SBOM
    assert found[sbom]["mediaType"] == OCI_MANIFEST
    assert found[sbom]["size"] == len(http.manifest(NAME, sbom))
    assert found[sbom]["annotations"] == {
        "org.opencontainers.image.created": "2026-01-01T00:00:00Z"
    }

    path = f"/v2/{NAME}/referrers/{subject['digest']}"
    filtered = http.client.get(path, params={"artifactType": SIGNATURE})
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in filtered.json()["manifests"]] == [signature]
    assert http.content_of(NAME, sbom)[sha256(b'{"spdx": 1}')] == b'{"spdx": 1}'

    http.delete(f"{NAME}/manifests/{signature}")
    assert [entry["digest"] for entry in http.referrers(NAME, subject["digest"])] == [sbom]


def test_an_artifact_may_come_before_its_subject(http: Api) -> None:
    http.push_empty(NAME)
    made = layer({"late": b"late"})
    unborn = http.push_image("signed/elsewhere", "1", [made])
    digest = push_artifact(http, unborn, SIGNATURE, b"early")
    assert [entry["digest"] for entry in http.referrers(NAME, unborn["digest"])] == [digest]
    assert http.status(f"{NAME}/manifests/{unborn['digest']}") == 404
    assert http.push_image(NAME, "late", [made])["digest"] == unborn["digest"]
    assert [entry["digest"] for entry in http.referrers(NAME, unborn["digest"])] == [digest]


def test_what_older_clients_left_under_the_fallback_tag_is_merged_in(
    http: Api, subject: Descriptor
) -> None:
    """Such a client pushes the artifact, then an index of all referrers under `sha256-<hex>`."""
    new = push_artifact(http, subject, SBOM, b"new")
    old = push_artifact(http, subject, SIGNATURE, b"old")
    entry = descriptor(OCI_MANIFEST, http.manifest(NAME, old), artifactType=SIGNATURE)
    content = dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    http.push_manifest(NAME, content, subject["digest"].replace(":", "-"))
    found = http.referrers(NAME, subject["digest"])
    assert sorted(entry["digest"] for entry in found) == sorted({new, old})
    filtered = http.referrers(NAME, subject["digest"], artifactType=SIGNATURE)
    assert [entry["digest"] for entry in filtered] == [old]


def test_signatures_of_cosign_lie_under_a_tag(http: Api, subject: Descriptor) -> None:
    """The older way: an image of its own, tagged `sha256-<hex>.sig`."""
    payload = dumps({"critical": {"image": {"docker-manifest-digest": subject["digest"]}}})
    part = descriptor(
        "application/vnd.dev.cosign.simplesigning.v1+json",
        payload,
        annotations={"dev.cosignproject.cosign/signature": "MEUCIQ"},
    )
    configuration = dumps({"architecture": "", "os": "", "rootfs": {"type": "layers"}})
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", configuration),
        "layers": [part],
    }
    for blob in (configuration, payload):
        http.push_blob(NAME, blob)
    tag = subject["digest"].replace(":", "-") + ".sig"
    http.push_manifest(NAME, dumps(manifest), tag)
    assert http.manifest(NAME, tag) == dumps(manifest)
    assert http.blob(NAME, sha256(payload)) == payload


def test_artifacts_outlive_what_engines_do_with_the_subject(
    registry: Server, http: Api, docker: Docker, skopeo: Skopeo, subject: Descriptor
) -> None:
    artifact_digest = push_artifact(http, subject, SIGNATURE, b"lasting")
    tagged = next(tag for tag in http.tags(NAME) if _digest(http, tag) == subject["digest"])
    name = f"{registry.address}/{NAME}"
    docker("pull", f"{name}:{tagged}")
    docker("tag", f"{name}:{tagged}", f"{name}:again")
    docker("push", f"{name}:again")
    skopeo.copy(f"docker://{name}:{tagged}", f"docker://{name}:copied")
    http.delete(f"{NAME}/manifests/{tagged}")
    found = [entry["digest"] for entry in http.referrers(NAME, subject["digest"])]
    assert found == [artifact_digest]
    assert _digest(http, "copied") == subject["digest"]


def test_an_artifact_travels_through_skopeo(
    registry: Server, http: Api, skopeo: Skopeo, subject: Descriptor
) -> None:
    """A client that knows nothing of subjects carries one along."""
    digest = push_artifact(http, subject, OCI_LAYER, b"travelling")
    raw = skopeo.raw(f"{registry.address}/{NAME}@{digest}")
    assert json.loads(raw)["subject"]["digest"] == subject["digest"]
    assert sha256(raw) == digest


def _digest(http: Api, tag: str) -> str:
    return sha256(http.manifest(NAME, tag))
