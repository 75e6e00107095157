"""A registry's API as tests use it: pushes and pulls over HTTP that check digests both ways."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.support.images import (
    EMPTY_JSON,
    EVERY_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Layer,
    config,
    descriptor,
    dumps,
    sha256,
)

OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Api:
    """Each method fails the test for an answer other than the one a client hopes for."""

    client: httpx.Client

    def push_blob(self, name: str, content: bytes, digest: str | None = None) -> str:
        """POST, then PUT; the digest. Given, `digest` is the one to push by."""
        return self.finish(self.begin(name), content, digest or sha256(content))

    def begin(self, name: str) -> str:
        """Begin an upload; its URL."""
        answer = self.client.post(f"/v2/{name}/blobs/uploads/")
        assert answer.status_code == 202, answer.text
        return self._location(answer)

    def append(self, location: str, content: bytes) -> str:
        answer = self.client.patch(location, content=content, headers=OCTETS)
        assert answer.status_code == 202, answer.text
        return self._location(answer)

    def upload_status(self, location: str) -> tuple[str, str]:
        """The URL to go on with, and the Range held."""
        answer = self.client.get(location)
        assert answer.status_code == 204, answer.text
        return self._location(answer), answer.headers["Range"]

    def cancel(self, location: str) -> None:
        answer = self.client.delete(location)
        assert answer.status_code == 204, answer.text

    def finish(self, location: str, content: bytes, digest: str) -> str:
        url = httpx.URL(location).copy_merge_params({"digest": digest})
        answer = self.client.put(url, content=content, headers=OCTETS)
        assert answer.status_code == 201, answer.text
        return digest

    def push_manifest(
        self, name: str, content: bytes, reference: str | None = None, media_type: str | None = None
    ) -> str:
        """By tag, or else by digest; the digest."""
        digest = sha256(content)
        media_type = media_type or json.loads(content)["mediaType"]
        url = f"/v2/{name}/manifests/{reference or digest}"
        answer = self.client.put(url, content=content, headers={"Content-Type": media_type})
        assert answer.status_code == 201, answer.text
        assert answer.headers["Docker-Content-Digest"] == digest
        return digest

    def push_image(
        self, name: str, tag: str | None, layers: Sequence[Layer], architecture: str = "amd64"
    ) -> Descriptor:
        """The image's blobs and its manifest; what an index says of it."""
        configuration = config([layer.diff_id for layer in layers], architecture)
        value = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, configuration),
            "layers": [descriptor(layer.media_type, layer.content) for layer in layers],
        }
        for content in (configuration, *(layer.content for layer in layers)):
            self.push_blob(name, content)
        manifest = dumps(value)
        self.push_manifest(name, manifest, tag)
        platform = {"os": "linux", "architecture": architecture}
        return descriptor(OCI_MANIFEST, manifest, platform=platform)

    def push_index(self, name: str, tag: str, children: Sequence[Descriptor]) -> Descriptor:
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children)}
        content = dumps(value)
        self.push_manifest(name, content, tag)
        return descriptor(OCI_INDEX, content)

    def push_empty(self, name: str) -> None:
        """The empty config of artifacts."""
        self.push_blob(name, EMPTY_JSON)

    def manifest(self, name: str, reference: str) -> bytes:
        """Its bytes, equal to the digest that the answer names."""
        answer = self.client.get(
            f"/v2/{name}/manifests/{reference}", headers={"Accept": EVERY_MANIFEST}
        )
        assert answer.status_code == 200, answer.text
        digest = answer.headers["Docker-Content-Digest"]
        assert sha256(answer.content) == digest
        assert reference == digest or ":" not in reference
        return answer.content

    def blob(self, name: str, digest: str) -> bytes:
        answer = self.client.get(f"/v2/{name}/blobs/{digest}", follow_redirects=True)
        assert answer.status_code == 200, answer.text
        assert sha256(answer.content) == digest or digest.startswith("sha512:")
        return answer.content

    def tags(self, name: str) -> list[str]:
        found: list[str] = self._json(f"/v2/{name}/tags/list")["tags"] or []
        return sorted(found)

    def catalog(self) -> list[str]:
        found: list[str] = self._json("/v2/_catalog?n=1000")["repositories"]
        return sorted(found)

    def referrers(self, name: str, digest: str, **query: str) -> list[Descriptor]:
        answer = self.client.get(f"/v2/{name}/referrers/{digest}", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == OCI_INDEX
        found: list[Descriptor] = answer.json()["manifests"]
        return found

    def delete(self, path: str) -> None:
        """`path` from the repository on, as in team/app/manifests/1."""
        answer = self.client.delete(f"/v2/{path}")
        assert answer.status_code == 202, answer.text

    def status(self, path: str) -> int:
        """What HEAD answers for it."""
        answer = self.client.head(f"/v2/{path}", headers={"Accept": f"{EVERY_MANIFEST}, */*"})
        return answer.status_code

    def content_of(self, name: str, reference: str) -> dict[str, bytes]:
        """Everything an image, index or artifact consists of, by digest; each checked."""
        content = self.manifest(name, reference)
        found, value = {sha256(content): content}, json.loads(content)
        for child in value.get("manifests", []):
            found |= self.content_of(name, child["digest"])
        for part in _blobs_of(value):
            found[part["digest"]] = self.blob(name, part["digest"])
        return found

    def _json(self, path: str) -> dict[str, Any]:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        value: dict[str, Any] = answer.json()
        return value

    def _location(self, answer: httpx.Response) -> str:
        return urljoin(str(answer.url), answer.headers["Location"])


def _blobs_of(manifest: dict[str, Any]) -> Iterable[Descriptor]:
    if "config" in manifest:
        yield manifest["config"]
    yield from manifest.get("layers", [])


@contextlib.contextmanager
def api(url: str) -> Iterator[Api]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield Api(client)
