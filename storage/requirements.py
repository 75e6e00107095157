"""What must be in the repository before a manifest is taken, and what an operator may relax."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from storage.at_once import at_once
from storage.blobs import Blobs
from storage.driver import Driver
from storage.model import mediatype
from storage.model.descriptor import Descriptor
from storage.model.errors import BlobUnknown, ManifestBlobUnknown, ManifestInvalid
from storage.model.manifest import Manifest

ChildSize = Callable[[Descriptor], int | None]


@dataclass(frozen=True, slots=True)
class Requirements:
    """Distribution's `validation` section.

    `platforms`: which children of an index must be present. "all" is every one, "none" is none, and
    a list of (os, architecture) is those, and those that name no platform.
    """

    enabled: bool = True
    platforms: str | Sequence[tuple[str, str]] = "all"
    allowed_urls: Sequence[re.Pattern[str]] = ()
    denied_urls: Sequence[re.Pattern[str]] = ()

    def check(
        self, driver: Driver, manifest: Manifest, blobs: Blobs, child_size: ChildSize
    ) -> None:
        """Raises ManifestBlobUnknown with all that is missing, ManifestInvalid for wrong sizes.

        `driver` is what `blobs` and `child_size` ask.
        """
        if not self.enabled:
            return
        for descriptor in (*manifest.blobs, *manifest.children):
            self._check_urls(descriptor)
        lacks = [
            *at_once(driver, partial(_lacks_blob, blobs), manifest.blobs),
            *at_once(driver, partial(self._lacks_child, blobs, child_size), manifest.children),
        ]
        missing = dict.fromkeys(digest for digest in lacks if digest is not None)
        if missing:
            raise ManifestBlobUnknown(list(missing))

    def _lacks_child(
        self, blobs: Blobs, child_size: ChildSize, descriptor: Descriptor
    ) -> str | None:
        size = child_size(descriptor)
        if size is not None:
            if size != descriptor.size:
                raise _wrong_size(descriptor, size)
            return None
        # BuildKit's older cache exports are indexes of layers.
        if descriptor.media_type not in mediatype.MANIFESTS and _is_blob(descriptor, blobs):
            return None
        return str(descriptor.digest) if self._must_be_present(descriptor.platform) else None

    def _must_be_present(self, platform: Mapping[str, object] | None) -> bool:
        if isinstance(self.platforms, str):
            return self.platforms != "none"
        if platform is None:
            return True
        return (platform.get("os"), platform.get("architecture")) in self.platforms

    def _check_urls(self, descriptor: Descriptor) -> None:
        """The registry never fetches them; a client may (SSRF and local files are its worry)."""
        for url in descriptor.urls:
            allowed = _is_web_address(url)
            if self.allowed_urls:
                allowed = allowed and any(rule.search(url) for rule in self.allowed_urls)
            if not allowed or any(rule.search(url) for rule in self.denied_urls):
                raise ManifestInvalid(
                    f"The manifest refers to the URL {url[:200]!r}, which this registry's "
                    "validation.manifests.urls does not allow."
                )


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # such as an IPv6 address without its closing bracket
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and not parts.fragment


def _lacks_blob(blobs: Blobs, descriptor: Descriptor) -> str | None:
    if _is_blob(descriptor, blobs) or mediatype.may_be_elsewhere(descriptor.media_type):
        return None
    return str(descriptor.digest)


def _is_blob(descriptor: Descriptor, blobs: Blobs) -> bool:
    try:
        size = blobs.stat(descriptor.digest).size
    except BlobUnknown:
        return False
    if size == descriptor.size:
        return True
    if blobs.drop_if_damaged(descriptor.digest):
        return False
    raise _wrong_size(descriptor, size)


def _wrong_size(descriptor: Descriptor, stored: int) -> ManifestInvalid:
    return ManifestInvalid(
        f"The manifest says that {descriptor.digest} has {descriptor.size} bytes, but it has "
        f"{stored}. Correct the size in the manifest.",
        {"digest": str(descriptor.digest), "size": descriptor.size, "stored": stored},
    )
