"""The media types of manifests (image-spec "Media Types"; Docker image manifest v2 schema 2)."""

from __future__ import annotations

from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

IMAGES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS: Final = IMAGES | INDEXES
SCHEMA1_TYPES: Final = frozenset({SCHEMA1, SCHEMA1_SIGNED})

BLOB: Final = "application/octet-stream"


def essence(header: str) -> str:
    """A Content-Type without its parameters, which a registry ignores, in lower case."""
    return header.partition(";")[0].strip().lower()


def may_be_elsewhere(media_type: str) -> bool:
    """Layers that their publisher keeps on other servers, and that a push therefore may leave out."""
    return ".nondistributable." in media_type or ".foreign." in media_type
