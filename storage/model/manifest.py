"""Manifests: what a document says, and what it needs to be whole.

The bytes a client sent are the manifest; they are never written anew. What is parsed here is only
what the registry must know: the type, the references, and what a referrers list shows. Unknown
fields are the client's own business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from storage.model import mediatype, strictjson
from storage.model.descriptor import Descriptor
from storage.model.digest import Digest
from storage.model.errors import ManifestInvalid

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes; the least that every registry should take (distribution-spec "Pushing Manifests")."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A valid manifest of one of the four types the registry takes."""

    content: bytes = field(repr=False)
    media_type: str
    blobs: tuple[Descriptor, ...]
    """Config and layers, in order."""
    children: tuple[Descriptor, ...]
    """What an index lists: manifests, and in old BuildKit caches blobs."""
    subject: Descriptor | None
    artifact_type: str | None
    """As a referrers list shows it: an image without one shows the type of its config."""
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, content: bytes, content_type: str) -> Self:
        """Raises ManifestInvalid or DigestInvalid. `content_type` is the client's, as it came."""
        declared = mediatype.essence(content_type)
        if declared in mediatype.SCHEMA1_TYPES:
            raise ManifestInvalid(
                "Docker schema 1 manifests are not accepted: they cannot be verified by digest. "
                "Push with Docker 1.10 or newer, which sends schema 2."
            )
        if declared not in mediatype.MANIFESTS:
            raise ManifestInvalid(
                "The Content-Type of a manifest is one of "
                f"{', '.join(sorted(mediatype.MANIFESTS))}, not {declared[:100]!r}."
            )
        try:
            document = strictjson.loads(content)
        except strictjson.NotStrictJson as error:
            raise ManifestInvalid(f"The manifest {error}.") from error
        if not isinstance(document, dict):
            raise ManifestInvalid("The manifest is not a JSON object.")
        _check_type(document, declared)
        if declared in mediatype.IMAGES:
            return cls(content, declared, *_image(document), **_about(document, image=True))
        return cls(content, declared, *_index(document), **_about(document, image=False))


def stored_media_type(content: bytes) -> str:
    """The type of a manifest that the tree holds. It is not stored, so the document tells.

    Never fails, and reads as Distribution does: whatever is in the tree was accepted once, perhaps
    by a registry that was not strict.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return mediatype.BLOB
    if not isinstance(document, dict):
        return mediatype.BLOB
    declared = document.get("mediaType")
    if isinstance(declared, str) and declared in mediatype.MANIFESTS:
        return declared
    if document.get("schemaVersion") == 1:
        return mediatype.SCHEMA1_SIGNED if "signatures" in document else mediatype.SCHEMA1
    return mediatype.OCI_INDEX if "manifests" in document else mediatype.OCI_MANIFEST


def _check_type(document: dict[str, Any], declared: str) -> None:
    if document.get("schemaVersion") != 2 or document.get("schemaVersion") is True:
        raise ManifestInvalid("The manifest's schemaVersion is not 2.")
    inner = document.get("mediaType")
    if inner is None and declared in {mediatype.OCI_MANIFEST, mediatype.OCI_INDEX}:
        return
    if inner != declared:
        raise ManifestInvalid(
            f"The manifest's mediaType is {str(inner)[:100]!r}, but it was sent as {declared!r}; "
            "they must be the same."
        )


def _image(document: dict[str, Any]) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    # One document must not be an image to one reader and an index to another (CVE-2021-41190).
    if "manifests" in document:
        raise ManifestInvalid("An image manifest has no 'manifests'; send it as an index.")
    blobs = (
        Descriptor.parse(document.get("config"), "config"),
        *_descriptors(document, "layers"),
    )
    return blobs, ()


def _index(document: dict[str, Any]) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    for stranger in ("layers", "config", "fsLayers"):
        if stranger in document:
            raise ManifestInvalid(f"An index has no {stranger!r}; send it as an image manifest.")
    return (), tuple(_descriptors(document, "manifests"))


def _descriptors(document: dict[str, Any], key: str) -> Iterator[Descriptor]:
    values = document.get(key, "")
    if values is None:  # as clients in Go write a list that they never began
        values = []
    if not isinstance(values, list):
        raise ManifestInvalid(f"The manifest's {key!r} is missing or not a list.")
    return (Descriptor.parse(value, f"{key}[{number}]") for number, value in enumerate(values))


def _about(document: dict[str, Any], *, image: bool) -> dict[str, Any]:
    artifact_type = document.get("artifactType") or None
    annotations = document.get("annotations") or {}
    subject = document.get("subject")
    if artifact_type is not None and not isinstance(artifact_type, str):
        raise ManifestInvalid("The manifest's artifactType is not a string.")
    if not isinstance(annotations, dict) or not all(
        isinstance(value, str) for value in annotations.values()
    ):
        raise ManifestInvalid("The manifest's annotations are not an object of strings.")
    if artifact_type is None and image:
        artifact_type = document["config"].get("mediaType")
    return {
        "subject": None if subject is None else Descriptor.parse(subject, "subject"),
        "artifact_type": artifact_type,
        "annotations": annotations,
    }


def references(manifest: Manifest) -> Iterator[Digest]:
    """Every digest a manifest names, its subject left out."""
    for descriptor in (*manifest.blobs, *manifest.children):
        yield descriptor.digest
