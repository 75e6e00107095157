"""Images made from nothing: layers, OCI layouts and artifacts, the same bytes for the same seed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1024 * 1024

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
EVERY_MANIFEST = ", ".join(MANIFEST_TYPES)
"""As the Accept of a client that takes any manifest."""

EMPTY_JSON = b"{}"

Descriptor = dict[str, Any]
"""JSON, as it stands in a manifest."""


def random_bytes(size: int, seed: int | str) -> bytes:
    """Bytes that no compressor shortens."""
    return random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def sha512(content: bytes) -> str:
    return f"sha512:{hashlib.sha512(content).hexdigest()}"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def descriptor(media_type: str, content: bytes, **more: Any) -> Descriptor:
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **more}


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def tarball(files: Mapping[str, bytes]) -> bytes:
    """A tar archive without times or owners, so its digest depends on `files` alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Layer:
    content: bytes  # as it is stored
    diff_id: str
    media_type: str


def layer(files: Mapping[str, bytes], *, compressed: bool = True) -> Layer:
    plain = tarball(files)
    if not compressed:
        return Layer(plain, sha256(plain), OCI_LAYER)
    return Layer(gzip.compress(plain, 1, mtime=0), sha256(plain), OCI_LAYER + "+gzip")


def random_layer(size: int, seed: int | str, *, compressed: bool = True) -> Layer:
    """One file of `size` random bytes."""
    return layer({f"data-{seed}": random_bytes(size, seed)}, compressed=compressed)


def config(diff_ids: Sequence[str], architecture: str = "amd64") -> bytes:
    return dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created_by": f"layer {number}"} for number in range(len(diff_ids))],
        }
    )


class Layout:
    """An OCI image layout in a directory, written as its parts are made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Descriptor] = []
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_bytes(dumps({"imageLayoutVersion": "1.0.0"}))

    def blob(self, media_type: str, content: bytes, **more: Any) -> Descriptor:
        made = descriptor(media_type, content, **more)
        (self.path / "blobs" / "sha256" / made["digest"].partition(":")[2]).write_bytes(content)
        return made

    def image(
        self,
        layers: Iterable[Layer],
        *,
        architecture: str = "amd64",
        annotations: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Layers are taken one at a time, so an image may be larger than memory."""
        descriptors, diff_ids = [], []
        for made in layers:
            descriptors.append(self.blob(made.media_type, made.content))
            diff_ids.append(made.diff_id)
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(OCI_CONFIG, config(diff_ids, architecture)),
            "layers": descriptors,
        }
        if annotations:
            manifest["annotations"] = dict(annotations)
        platform = {"architecture": architecture, "os": "linux"}
        return self.blob(OCI_MANIFEST, dumps(manifest), platform=platform)

    def index(self, children: Sequence[Descriptor]) -> Descriptor:
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children)}
        return self.blob(OCI_INDEX, dumps(value))

    def tag(self, what: Descriptor, name: str) -> None:
        named = {**what, "annotations": {"org.opencontainers.image.ref.name": name}}
        named.pop("platform", None)
        self._entries.append(named)
        (self.path / "index.json").write_bytes(
            dumps({"schemaVersion": 2, "manifests": self._entries})
        )

    def reference(self, name: str) -> str:
        """As skopeo names it."""
        return f"oci:{self.path}:{name}"

    def archive(self, path: Path) -> Path:
        """The layout as one tar file, for clients that import that."""
        with tarfile.open(path, "w") as made:
            for part in ("oci-layout", "index.json", "blobs"):
                made.add(self.path / part, part)
        return path


def layout_blobs(path: Path) -> set[str]:
    """The digests of a layout's blobs, each hashed: a wrong one fails here."""
    found = set()
    for file in (path / "blobs" / "sha256").iterdir():
        digest = sha256_of(file)
        assert digest == f"sha256:{file.name}", f"{file} holds {digest}"
        found.add(digest)
    return found


def artifact(
    subject: Descriptor | None, artifact_type: str, layers: Sequence[Descriptor], **more: Any
) -> bytes:
    """The manifest of an artifact with the empty config (image-spec "Guidelines for Artifact Usage")."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(OCI_EMPTY, EMPTY_JSON),
        "layers": list(layers),
        **more,
    }
    if subject is not None:
        value["subject"] = {key: subject[key] for key in ("mediaType", "digest", "size")}
    return dumps(value)
