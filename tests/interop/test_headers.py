"""What the peer says in the heads of its answers, we say too: the same spelling, the same values.

A script that reads them by eye and `awk` has no other contract.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.api import api
from tests.support.images import EVERY_MANIFEST, layer
from tests.support.servers import Server, distribution, holdfast

NAME = "heads/app"
OUR_OWN_VALUES = {"Date", "Content-Length", "Location", "Docker-Upload-Uuid"}
"""Headers whose values differ. The lengths are those of JSON, and compared where it is content."""


def head(
    server: Server, method: str, path: str, headers: dict[str, str]
) -> tuple[int, dict[str, str]]:
    """Status and headers, by their names as they are spelled."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request(method, path, headers={"Accept": EVERY_MANIFEST, **headers})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders())
    finally:
        connection.close()


def test_heads_are_those_of_the_peer(peer: str, work: Path) -> None:
    with (
        holdfast(work, config={"http": {"secret": "peer"}}) as ours,
        distribution(work, peer) as theirs,
        api(ours.url) as pushing,
    ):
        image = pushing.push_image(NAME, "1", [layer({"x": b"1"})])
        pushing.push_image(NAME, "2", [layer({"x": b"2"})])
        manifest = json.loads(pushing.manifest(NAME, "1"))
        manifests, blob = (
            f"/v2/{NAME}/manifests",
            f"/v2/{NAME}/blobs/{manifest['config']['digest']}",
        )
        for method, path, headers in (
            ("GET", "/v2/", {}),
            ("GET", f"/v2/{NAME}/tags/list?n=1", {}),
            ("GET", f"/v2/{NAME}/tags/list", {}),
            ("GET", f"{manifests}/1", {}),
            ("HEAD", f"{manifests}/{image['digest']}", {}),
            ("GET", f"{manifests}/1", {"If-None-Match": image["digest"]}),
            ("GET", f"{manifests}/absent", {}),
            ("GET", blob, {}),
            ("HEAD", blob, {}),
            ("GET", blob, {"Range": "bytes=2-9"}),
            ("GET", "/v2/absent/tags/list", {}),
            ("POST", f"/v2/{NAME}/blobs/uploads/", {}),
        ):
            status, expected = head(theirs, method, path, headers)
            said, found = head(ours, method, path, headers)
            assert said == status, path
            for name, value in expected.items():
                assert name in found, (method, path, sorted(found))
                if name not in OUR_OWN_VALUES:
                    assert found[name] == value.removesuffix("; charset=utf-8"), (path, name)
            if path.startswith((manifests, blob)) and status in {200, 206}:
                assert found["Content-Length"] == expected["Content-Length"]
        assert urlsplit(found["Location"]).path.startswith(f"/v2/{NAME}/blobs/uploads/")
