"""Trees of a given size, made fast: CNCF Distribution's layout, with no registry in between.

Each image has a config and two layers of its own and two base layers that many share; one in ten has lost
its tag, one in twenty its manifest's link, so there is garbage of both kinds. Ten files an image.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

IMAGE = "application/vnd.oci.image.manifest.v1+json"
FILES_PER_IMAGE = 14
IMAGES_PER_REPOSITORY = 25
BASES = 40


@dataclass(frozen=True, slots=True)
class Kept:
    """An image with a tag."""

    repository: str
    tag: str
    manifest: bytes
    digest: str
    layer: tuple[str, int]
    """Digest and size of one of its layers."""


class TreeMaker:
    def __init__(self, root: Path) -> None:
        self._base = root / "docker/registry/v2"
        self.files = 0
        self._images = 0
        self.untagged = 0
        """Manifests that are there and have no tag."""
        self.kept: list[Kept] = []
        self._bases = [self._blob(b"base %d" % number) for number in range(BASES)]

    def make(self, files: int) -> None:
        """At least so many files in all, a few more; those that are there count."""
        while self.files < files:
            self._image(self._images)
            self._images += 1

    def tag_again(self, image: Kept, count: int) -> None:
        """Give it so many further tags."""
        for number in range(count):
            self._tag(self._base / "repositories" / image.repository, f"t{number}", image.digest)

    def _image(self, number: int) -> None:
        name = f"team-{number // 1000}/app-{number // IMAGES_PER_REPOSITORY}"
        repository = self._base / "repositories" / name
        config = self._blob(b'{"image":%d}' % number)
        own = [self._blob(b"layer %d of %d" % (layer, number)) for layer in range(2)]
        layers = [self._bases[number % BASES], self._bases[number // 7 % BASES], *own]
        content = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": IMAGE,
                "config": {"mediaType": "application/json", "digest": config[0], "size": config[1]},
                "layers": [
                    {"mediaType": "application/octet-stream", "digest": digest, "size": size}
                    for digest, size in layers
                ],
            }
        ).encode()
        manifest, _ = self._blob(content)
        for digest, _size in (config, *own, *layers[:2]):
            self._link(repository / f"_layers/sha256/{digest[7:]}/link", digest)
        if number % 20 == 19:
            return
        self._link(repository / f"_manifests/revisions/sha256/{manifest[7:]}/link", manifest)
        if number % 10 == 8:
            self.untagged += 1
            return
        self._tag(repository, f"v{number}", manifest)
        self.kept.append(Kept(name, f"v{number}", content, manifest, own[0]))

    def _tag(self, repository: Path, name: str, manifest: str) -> None:
        tag = repository / "_manifests/tags" / name
        self._link(tag / f"index/sha256/{manifest[7:]}/link", manifest)
        self._link(tag / "current/link", manifest)

    def _blob(self, content: bytes) -> tuple[str, int]:
        encoded = hashlib.sha256(content).hexdigest()
        self._write(self._base / f"blobs/sha256/{encoded[:2]}/{encoded}/data", content)
        return f"sha256:{encoded}", len(content)

    def _link(self, path: Path, digest: str) -> None:
        self._write(path, digest.encode())

    def _write(self, path: Path, content: bytes) -> None:
        if path.exists():
            return
        os.makedirs(path.parent, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_600_000_000, 1_600_000_000))
        self.files += 1
