"""A storage with images in it, and a collector whose waits are over at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from registry_gc.collect import collect
from registry_gc.options import Options
from registry_gc.report import Report

from storage import layout
from storage.collection.timing import Timing
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.digest import Digest
from storage.model.errors import ManifestUnknown
from storage.model.reference import RepositoryName, Tag
from storage.repository import Repository, Store

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
AT_ONCE = Timing(view=0, section=0, lag=0)
"""Of the collector alone, where nobody pushes while it runs but the test itself."""


def descriptor(content: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
    digest = Digest.of(content, algorithm)
    return {"mediaType": media_type, "digest": str(digest), "size": len(content)}


@dataclass
class Shop:
    driver: Driver
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.driver)

    def repository(self, name: str) -> Repository:
        return self.store.repository(RepositoryName(name))

    def blob(self, name: str, content: bytes, algorithm: str = "sha256") -> Digest:
        digest = Digest.of(content, algorithm)
        uploads = self.repository(name).uploads
        with uploads.resume(uploads.start(algorithm), digest) as session:
            session.append([content])
            uploads.commit(session, digest)
        return digest

    def image(
        self,
        name: str,
        tag: str | None,
        *layers: bytes,
        subject: bytes | None = None,
        algorithm: str = "sha256",
        **more: Any,
    ) -> Digest:
        """Push what is not there yet, then the manifest."""
        for content in (b"{}", *layers):
            if not self.repository(name).blobs.has(Digest.of(content, algorithm)):
                self.blob(name, content, algorithm)
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": descriptor(b"{}", "application/json", algorithm),
            "layers": [descriptor(content, LAYER, algorithm) for content in layers],
            **more,
        }
        if subject is not None:
            document["subject"] = descriptor(subject, IMAGE)
        return self.manifest(name, tag, document)

    def index(self, name: str, tag: str | None, children: Sequence[Digest]) -> Digest:
        document = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor(self.content(child), IMAGE) for child in children],
        }
        return self.manifest(name, tag, document)

    def manifest(self, name: str, tag: str | None, document: dict[str, Any]) -> Digest:
        content = json.dumps(document).encode()
        reference = Digest.of(content) if tag is None else Tag(tag)
        media_type = document["mediaType"]
        return self.repository(name).manifests.put(content, media_type, reference)[0]

    def content(self, digest: Digest) -> bytes:
        return self.driver.read(layout.blob(digest))

    def has_blob(self, digest: Digest) -> bool:
        try:
            self.driver.stat(layout.blob(digest))
        except ObjectNotFound:
            return False
        return True

    def pulls(self, name: str, digest: Digest) -> bool:
        """The manifest, with everything that it names, through a node that remembers nothing."""
        repository = Store(self.driver).repository(RepositoryName(name))
        try:
            document = json.loads(repository.manifests.get(digest).content)
        except ManifestUnknown:
            return False
        named = [document["config"], *document["layers"]] if "config" in document else []
        children = [Digest.parse(each["digest"]) for each in document.get("manifests", [])]
        return all(repository.blobs.has(Digest.parse(each["digest"])) for each in named) and all(
            self.pulls(name, child) for child in children
        )

    def collect(self, report: Report | None = None, **options: Any) -> Report:
        """As `registry-gc --now --force`, of whatever age, unless told otherwise."""
        given = {
            "minimum_age": -10.0,
            "again": True,
            "timing": AT_ONCE,
            "trash": -10.0,
            "force": True,
        }
        return collect(self.driver, Options(**{**given, **options}), report)

    def tree(self, below: str = "") -> set[str]:
        """The keys of what registries read, not of the collector's own."""
        own = (layout.COLLECTION, f"{layout.ROOT}/holdfast")
        found = self.driver.walk(f"{layout.ROOT}/{below}".rstrip("/"))
        return {info.key for info in found if not info.key.startswith(own)}
