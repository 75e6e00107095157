"""All that a registry serves, so that two registries on one tree can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.api import Api
from tests.support.images import EVERY_MANIFEST, sha256


@dataclass
class Snapshot:
    catalog: list[str] = field(default_factory=list)
    tags: dict[str, list[str]] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """Repository and reference; media type and bytes."""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)


def snapshot(http: Api, more: Iterable[tuple[str, str]] = ()) -> Snapshot:
    """What the catalog leads to, and `more`: repositories with references that no tag leads to."""
    seen = Snapshot(catalog=http.catalog())
    for name in seen.catalog:
        seen.tags[name] = http.tags(name) if tagged(http, name) else []
        for tag in seen.tags[name]:
            _follow(seen, http, name, tag)
    for name, reference in more:
        _follow(seen, http, name, reference)
    return seen


def tagged(http: Api, name: str) -> bool:
    """Whether the repository has a list of tags; one that lost its last tag may have none."""
    return http.client.get(f"/v2/{name}/tags/list").status_code == 200


def _follow(seen: Snapshot, http: Api, name: str, reference: str) -> None:
    if (name, reference) in seen.manifests:
        return
    content = http.manifest(name, reference)
    head = http.client.head(f"/v2/{name}/manifests/{reference}", headers={"Accept": EVERY_MANIFEST})
    assert head.headers["Content-Length"] == str(len(content))
    assert head.headers["Docker-Content-Digest"] == sha256(content)
    seen.manifests[name, reference] = (head.headers["Content-Type"], content)
    _follow(seen, http, name, sha256(content))
    value = json.loads(content)
    for child in value.get("manifests", []):
        _follow(seen, http, name, child["digest"])
    for part in [value[key] for key in ("config",) if key in value] + value.get("layers", []):
        if (name, part["digest"]) not in seen.blobs:
            seen.blobs[name, part["digest"]] = http.blob(name, part["digest"])
