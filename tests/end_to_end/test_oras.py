"""Artifacts by the SDK of ORAS, which is the one client here that pushes a blob in several chunks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oras.client import OrasClient
from oras.oci import Subject

from tests.support.api import Api
from tests.support.images import MIB, OCI_MANIFEST, layer, random_bytes, sha256
from tests.support.servers import Server

SBOM = "application/spdx+json"


@pytest.fixture
def oras(registry: Server) -> OrasClient:
    return OrasClient(hostname=registry.address, insecure=True, tls_verify=False)


@pytest.mark.parametrize("chunk", [None, 700_000])
def test_files_come_back(
    registry: Server, http: Api, oras: OrasClient, work: Path, chunk: int | None
) -> None:
    files = {"sbom.json": b'{"spdx": 1}', "data.bin": random_bytes(3 * MIB, f"oras {chunk}")}
    for name, content in files.items():
        (work / name).write_bytes(content)
    target = f"{registry.address}/oras/files:{chunk or 'whole'}"
    answer = oras.push(
        target=target,
        files=[f"{work / 'sbom.json'}:{SBOM}", str(work / "data.bin")],
        disable_path_validation=True,
        do_chunked=chunk is not None,
        chunk_size=chunk or MIB,
        quiet=True,
    )
    assert answer.status_code == 201

    manifest = json.loads(http.manifest("oras/files", str(chunk or "whole")))
    assert manifest["layers"][0]["mediaType"] == SBOM
    held = {entry["digest"] for entry in manifest["layers"]}
    assert held == {sha256(content) for content in files.values()}

    pulled = oras.pull(target=target, outdir=str(work / "back"))
    assert {Path(path).name: Path(path).read_bytes() for path in pulled} == files
    assert str(chunk or "whole") in oras.get_tags(target)


def test_an_attachment_is_listed_with_its_subject(
    registry: Server, http: Api, oras: OrasClient, work: Path
) -> None:
    image = http.push_image("oras/subject", "1", [layer({"app": b"app"})])
    subject = Subject(image["mediaType"], image["digest"], image["size"])
    (work / "signature").write_bytes(b"signature")
    oras.push(
        target=f"{registry.address}/oras/subject:attached",
        files=[str(work / "signature")],
        disable_path_validation=True,
        subject=subject,
        quiet=True,
    )
    (found,) = http.referrers("oras/subject", image["digest"])
    assert found["mediaType"] == OCI_MANIFEST
    assert found["digest"] == sha256(http.manifest("oras/subject", "attached"))
    oras.delete_tag(f"{registry.address}/oras/subject:attached", "attached")
    assert http.tags("oras/subject") == ["1"]
