"""Descriptors: typed, sized pointers to content (image-spec, descriptor.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from storage.model.digest import Digest
from storage.model.errors import ManifestInvalid

SIZE_LIMIT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Descriptor:
    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    platform: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        """Raises ManifestInvalid or DigestInvalid; `where` names the place in the manifest."""
        if not isinstance(value, dict):
            raise ManifestInvalid(f"In the manifest, {where} is not a descriptor object.")
        media_type = value.get("mediaType", "")
        digest = value.get("digest")
        size = value.get("size")
        urls = value.get("urls") or []
        platform = value.get("platform")
        if not isinstance(media_type, str):
            raise ManifestInvalid(f"In the manifest, {where}.mediaType is not a string.")
        if not isinstance(digest, str):
            raise ManifestInvalid(f"In the manifest, {where}.digest is missing or not a string.")
        if type(size) is not int or not 0 <= size <= SIZE_LIMIT:
            raise ManifestInvalid(
                f"In the manifest, {where}.size is missing or not a number of bytes from 0 to 2^63-1."
            )
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise ManifestInvalid(f"In the manifest, {where}.urls is not a list of strings.")
        return cls(
            media_type,
            Digest.parse(digest),
            size,
            tuple(urls),
            platform if isinstance(platform, dict) else None,
        )
