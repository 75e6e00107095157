"""Manifests of one repository, and the tags that name them.

Writing goes bytes, revision link, referrer entry, then per tag its index and last its current link;
each is durable before the next, so a crash leaves garbage or a manifest without its tag, never a name
for something that is not there. Deleting goes the other way.

Bytes are verified against their digest whenever they come from the storage: an altered manifest is
never served under its old name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from storage import layout, links
from storage.blobs import Blobs
from storage.cache import Cache
from storage.collection import entries, journal
from storage.collection.entries import Entry
from storage.collection.guard import Guard
from storage.collection.journal import Removal
from storage.driver import ANYTHING, Anything, Driver
from storage.driver_errors import ObjectNotFound
from storage.expectation import Expectation, holds
from storage.model.descriptor import Descriptor
from storage.model.digest import Digest
from storage.model.errors import (
    DigestInvalid,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    PreconditionFailed,
    RegistryError,
    Unavailable,
)
from storage.model.manifest import SIZE_LIMIT, Manifest, stored_media_type
from storage.model.reference import RepositoryName, Tag
from storage.presence import keep
from storage.referrers import Referrers
from storage.requirements import Requirements
from storage.tags import Tags
from storage.tags import unknown as unknown_tag
from storage.translation import translated

log = logging.getLogger("holdfast.storage")


@dataclass(frozen=True, slots=True)
class StoredManifest:
    digest: Digest
    media_type: str
    content: bytes


ManifestCache = Cache[Digest, StoredManifest]


def unknown(digest: Digest) -> ManifestUnknown:
    return ManifestUnknown(
        f"The repository has no manifest {digest}. It was never pushed here, or was deleted.",
        {"digest": str(digest)},
    )


class Manifests:
    def __init__(
        self,
        driver: Driver,
        name: RepositoryName,
        blobs: Blobs,
        tags: Tags,
        cache: ManifestCache,
        requirements: Requirements,
        enter: Callable[[RepositoryName], None] = lambda _: None,
        guard: Guard | None = None,
    ) -> None:
        """`enter` makes a repository appear in the catalog."""
        self._guard = guard or Guard(driver)
        self._driver = driver
        self._name = name
        self._blobs = blobs
        self._tags = tags
        self._cache = cache
        self._requirements = requirements
        self._enter = enter
        self._referrers = Referrers(driver, name, tags, self._parsed)

    @translated
    def get(self, reference: Digest | Tag) -> StoredManifest:
        """Raises ManifestUnknown; Unavailable if what is stored is not what was pushed."""
        if isinstance(reference, Digest):
            return self._load(reference)
        digest = self._tags.current(reference)
        if digest is None:
            raise unknown_tag(reference)
        try:
            return self._load(digest)
        except ManifestUnknown:
            raise unknown_tag(reference) from None

    @translated
    def put(
        self,
        content: bytes,
        content_type: str,
        reference: Digest | Tag,
        tags: Sequence[Tag] = (),
        expected: Expectation = ANYTHING,
    ) -> tuple[Digest, Manifest]:
        """Store a manifest, then point `reference` or `tags` at it.

        With `expected`, each tag (or, without any, the manifest itself) must be as that says, else
        PreconditionFailed and nothing is changed, but see Tags.set_all for several. Raises
        ManifestInvalid, ManifestTooLarge, DigestInvalid, ManifestBlobUnknown or Doomed, and has then
        stored nothing; Unavailable, and may have stored some of it.
        """
        if len(content) > SIZE_LIMIT:
            raise too_large()
        manifest = Manifest.parse(content, content_type)
        if isinstance(reference, Digest):
            digest = reference
            if not digest.matches(content):
                raise DigestInvalid(
                    f"The manifest sent has the digest {Digest.of(content, digest.algorithm)}, not "
                    f"{digest}.",
                    {"digest": str(digest)},
                )
        else:
            digest, tags = Digest.of(content), (reference, *tags)
        self._require(digest, tags, expected)
        reliance = self._guard.rely(self._entries(digest, manifest))
        self._requirements.check(self._driver, manifest, self._blobs, self._child_size)

        self._store(digest, content)
        self._enter(self._name)
        links.write(self._driver, layout.revision(self._name, digest), digest)
        self._referrers.add(digest, manifest)
        self._tags.set_all(list(dict.fromkeys(tags)), digest, expected)
        reliance.confirm()
        self._remember(StoredManifest(digest, manifest.media_type, content), manifest)
        return digest, manifest

    @translated
    def delete(self, digest: Digest) -> None:
        """Remove a manifest and every tag that names it. Raises ManifestUnknown."""
        key = layout.revision(self._name, digest)
        if links.read(self._driver, key) is None:
            raise unknown(digest)
        try:
            subject = self._parsed(digest).subject
        except RegistryError:  # a damaged or foreign manifest can be deleted like any other
            subject = None
        journal.record(self._driver, [Removal(self._name, digest)])
        self._tags.delete_pointing_to(digest)
        self._driver.delete_many([key, layout.pulled_by_digest(self._name, digest)])
        self._driver.prune(layout.revision_directory(self._name, digest))
        if subject is not None:
            self._referrers.remove(digest, subject.digest)
        keep(self._driver, self._name)

    @translated
    def referrers(self, subject: Digest) -> dict[Digest, dict[str, object]]:
        """Descriptors of the manifests that have this subject, in the order of their digests."""
        return self._referrers.list(subject)

    def _require(self, digest: Digest, tags: Sequence[Tag], expected: Expectation) -> None:
        if isinstance(expected, Anything):
            return
        for tag in tags:
            self._tags.require(tag, expected)
        if not tags:
            present = links.read(self._driver, layout.revision(self._name, digest))
            if not holds(expected, present):
                raise PreconditionFailed(
                    f"The manifest {digest} is {'present already' if present else 'absent'}.",
                    {"digest": str(digest)},
                )

    def _entries(self, digest: Digest, manifest: Manifest) -> Iterator[Entry]:
        """What a push of the manifest relies on, or would bring back."""
        for name in (digest, *(child.digest for child in manifest.children)):
            yield entries.blob(name)
            yield entries.manifest(self._name, name)
        for blob in manifest.blobs:
            yield from map(entries.blob, self._blobs.names(blob.digest))

    def _store(self, digest: Digest, content: bytes) -> None:
        """Write the bytes unless they are there; a damaged copy is replaced."""
        key = layout.blob(digest)
        try:
            if self._driver.read(key, length=SIZE_LIMIT + 1) == content:
                return
            log.error("stored manifest %s was damaged; the push that came now mends it", digest)
        except ObjectNotFound:
            pass
        self._driver.write(key, content)

    def _load(self, digest: Digest) -> StoredManifest:
        target = links.read(self._driver, layout.revision(self._name, digest))
        if target is None:
            raise unknown(digest)
        known = self._cache.get(digest)
        if known is not None:
            return known
        try:
            content = self._driver.read(layout.blob(target), length=SIZE_LIMIT + 1)
        except ObjectNotFound:
            log.error("manifest %s of %s is linked but not stored", digest, self._name)
            raise unknown(digest) from None
        if not digest.matches(content):
            log.error("stored manifest %s is damaged; push it again to mend it", digest)
            raise Unavailable(
                f"The stored copy of manifest {digest} is damaged and is not served. Push it again "
                "to mend it, or restore the storage from its backup.",
                retry_after=60,
            )
        stored = StoredManifest(digest, stored_media_type(content), content)
        self._remember(stored, None)
        return stored

    def _remember(self, stored: StoredManifest, manifest: Manifest | None) -> None:
        self._cache.put(stored.digest, stored)
        if manifest is None:
            try:
                manifest = Manifest.parse(stored.content, stored.media_type)
            except (ManifestInvalid, DigestInvalid):
                return
        self._blobs.expect((blob.digest, blob.size) for blob in manifest.blobs)

    def _parsed(self, digest: Digest) -> Manifest:
        stored = self._load(digest)
        return Manifest.parse(stored.content, stored.media_type)

    def _child_size(self, child: Descriptor) -> int | None:
        """Size of a manifest of this repository, or None."""
        target = links.read(self._driver, layout.revision(self._name, child.digest))
        if target is None:
            return None
        try:
            return self._driver.stat(layout.blob(target)).size
        except ObjectNotFound:
            return None


def too_large() -> ManifestTooLarge:
    return ManifestTooLarge(
        f"A manifest is at most {SIZE_LIMIT} bytes ({SIZE_LIMIT // 2**20} MiB). Put large "
        "content into a blob and refer to it."
    )
