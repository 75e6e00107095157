"""Helm itself: a chart pushed, found by its version, and pulled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.deploy import helm
from tests.support.api import Api
from tests.support.images import OCI_MANIFEST, sha256
from tests.support.servers import Server

pytestmark = pytest.mark.engine("helm")

CONFIG = "application/vnd.cncf.helm.config.v1+json"
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def test_charts_come_back(registry: Server, http: Api, work: Path) -> None:
    library = helm.library()
    charts = {
        version: Path(
            library.package(str(helm.CHART), destination=str(work), version=version)
        ).read_bytes()
        for version in ("1.0.0", "1.1.0+build.7", "2.0.0-rc.1")
    }
    remote = f"oci://{registry.address}/charts"
    for version in charts:
        library.push(str(work / f"holdfast-{version}.tgz"), remote, plain_http=True)
    # A tag has no plus sign: Helm writes an underscore, and reads it as a plus.
    assert http.tags("charts/holdfast") == ["1.0.0", "1.1.0_build.7", "2.0.0-rc.1"]
    manifest = json.loads(http.manifest("charts/holdfast", "1.0.0"))
    assert manifest.get("mediaType", OCI_MANIFEST) == OCI_MANIFEST
    assert manifest["config"]["mediaType"] == CONFIG
    (content,) = manifest["layers"]
    assert (content["mediaType"], content["digest"]) == (CONTENT, sha256(charts["1.0.0"]))

    for asked in (*charts, None):
        back = work / f"back-{asked}"
        back.mkdir()
        library.pull(f"{remote}/holdfast", destination=str(back), version=asked, plain_http=True)
        (path,) = back.iterdir()
        assert path.read_bytes() == charts[asked or "1.1.0+build.7"]  # the newest release
