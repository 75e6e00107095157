"""Blobs of one repository: content anywhere in the store, readable where a layer link says so.

The link is the access check. Content that some other repository has is not there for this one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from storage import layout, links
from storage.cache import Cache
from storage.collection import entries
from storage.collection.guard import Guard
from storage.driver import Driver, Reader
from storage.driver_errors import ObjectNotFound, WouldBlock
from storage.hashing import Hasher
from storage.model.digest import CANONICAL, Digest
from storage.model.errors import BlobUnknown
from storage.model.reference import RepositoryName
from storage.translation import translated

log = logging.getLogger("holdfast.storage")

READ_SIZE = 1024 * 1024

SIZES_REMEMBERED = 100_000
VERDICTS_REMEMBERED = 1000


class BlobMemory:
    """What all repositories of a store remember of blobs; none of it is proof of anything."""

    def __init__(self) -> None:
        self.sizes: Cache[tuple[RepositoryName, Digest], int] = Cache(SIZES_REMEMBERED)
        """What manifests of a repository say of its blobs."""
        self.verdicts: Cache[tuple[Digest, int], bool] = Cache(VERDICTS_REMEMBERED)
        """Whether content of that name and size was found to be damaged."""


@dataclass(frozen=True, slots=True)
class Blob:
    """`stored` names the bytes; it differs from `digest` where Distribution kept a sha512 push."""

    digest: Digest
    stored: Digest
    size: int


def unknown(digest: Digest) -> BlobUnknown:
    return BlobUnknown(
        f"The repository has no blob {digest}. Check the digest, or push the blob here.",
        str(digest),
    )


class Blobs:
    def __init__(
        self,
        driver: Driver,
        name: RepositoryName,
        memory: BlobMemory,
        guard: Guard | None = None,
        *,
        patient: bool = True,
    ) -> None:
        """`patient` is False over an immediate view, whose caller must not wait."""
        self._guard = guard or Guard(driver)
        self._driver = driver
        self._name = name
        self._memory = memory
        self._patient = patient

    @translated
    def stat(self, digest: Digest) -> Blob:
        """Raises BlobUnknown."""
        stored = self._linked(digest)
        try:
            size = self._driver.stat(layout.blob(stored)).size
        except ObjectNotFound:
            raise unknown(digest) from None
        return self._trusted(Blob(digest, stored, size))

    @translated
    def open(self, digest: Digest) -> tuple[Blob, Reader]:
        """The caller closes the reader. Raises BlobUnknown."""
        stored = self._linked(digest)
        try:
            reader = self._driver.open(layout.blob(stored))
        except ObjectNotFound:
            raise unknown(digest) from None
        try:
            return self._trusted(Blob(digest, stored, reader.info.size)), reader
        except BaseException:  # also WouldBlock and what is no Exception: the file is open
            reader.close()
            raise

    @translated
    def url(self, digest: Digest, lifetime: int) -> str | None:
        """From where a client can GET the blob for `lifetime` seconds; None if storage has no URLs.

        Raises BlobUnknown.
        """
        key = layout.blob(self.stat(digest).stored)
        return self._driver.presign(key, lifetime=lifetime, patient=self._patient)

    def has(self, digest: Digest) -> bool:
        try:
            self.stat(digest)
        except BlobUnknown:
            return False
        return True

    @translated
    def drop_if_damaged(self, digest: Digest) -> bool:
        """Read the stored bytes; if they are not what their name says, unlink them here.

        For when a manifest and the storage disagree about a size, to tell which of them is wrong.
        Costs a read of the whole blob. Clients then find the blob absent, push it, and so mend it.
        Raises BlobUnknown.
        """
        if not self._is_damaged(self._linked(digest)):
            return False
        self._driver.delete_many([layout.layer(self._name, digest)])
        return True

    @translated
    def link(self, digest: Digest) -> None:
        """Make stored content readable here. The caller has proof that it may be, and that it is there."""
        links.write(self._driver, layout.layer(self._name, digest), digest)

    @translated
    def mount(self, digest: Digest, source: Blobs) -> Blob:
        """Make a blob of another repository readable here.

        Raises BlobUnknown if that has none such, Doomed if it may soon have none.
        """
        reliance = self._guard.rely(map(entries.blob, source.names(digest)))
        blob = source.stat(digest)
        for name in {blob.digest, blob.stored}:
            links.write(self._driver, layout.layer(self._name, name), blob.stored)
        reliance.confirm()
        return blob

    @translated
    def adopt(self, digest: Digest) -> Blob:
        """Make content of whatever repository readable here, for a caller who may read them all.

        Raises BlobUnknown if it is nowhere, Doomed if it soon may be.
        """
        reliance = self._guard.rely([entries.blob(digest)])
        try:
            size = self._driver.stat(layout.blob(digest)).size
        except ObjectNotFound:
            raise unknown(digest) from None
        self.link(digest)
        reliance.confirm()
        return Blob(digest, digest, size)

    def names(self, digest: Digest) -> set[Digest]:
        """The blob's, and that of the content, which Distribution kept under another for sha512."""
        if digest.algorithm == CANONICAL:
            return {digest}
        stored = links.read(self._driver, layout.layer(self._name, digest))
        return {digest} if stored is None else {digest, stored}

    @translated
    def delete(self, digest: Digest) -> None:
        """Take the blob out of this repository; its bytes stay for others. Raises BlobUnknown."""
        try:
            self._driver.delete(layout.layer(self._name, digest))
        except ObjectNotFound:
            raise unknown(digest) from None

    def expect(self, sizes: Iterable[tuple[Digest, int]]) -> None:
        """Note the sizes that an accepted manifest of this repository gives to its blobs."""
        for digest, size in sizes:
            self._memory.sizes.put((self._name, digest), size)

    def _linked(self, digest: Digest) -> Digest:
        stored = links.read(self._driver, layout.layer(self._name, digest))
        if stored is None:
            raise unknown(digest)
        return stored

    def _trusted(self, blob: Blob) -> Blob:
        """Damaged content counts as absent, so that the next push of it replaces it.

        That a manifest gives another size is only a reason to look: Distribution took such manifests.
        Raises BlobUnknown.
        """
        expected = self._memory.sizes.get((self._name, blob.digest))
        if expected is None or expected == blob.size:
            return blob
        if not self._patient:
            raise WouldBlock(f"{blob.stored} may be damaged")
        damaged = self._memory.verdicts.get((blob.stored, blob.size))
        if damaged is None:
            damaged = self._is_damaged(blob.stored)
            self._memory.verdicts.put((blob.stored, blob.size), damaged)
        if damaged:
            raise unknown(blob.digest)
        return blob

    def _is_damaged(self, stored: Digest) -> bool:
        try:
            reader = self._driver.open(layout.blob(stored))
        except ObjectNotFound:
            raise unknown(stored) from None
        hasher = Hasher(stored.algorithm)
        try:
            while data := reader.read_at(hasher.length, READ_SIZE):
                hasher.update(data)
        finally:
            reader.close()
        if hasher.digest() == stored:
            log.warning("a manifest of %s gives a wrong size to blob %s", self._name, stored)
            return False
        log.error(
            "stored blob %s is damaged (%d bytes, seen through %s); it counts as absent, and a push "
            "of it mends it",
            stored,
            hasher.length,
            self._name,
        )
        return True
