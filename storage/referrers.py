"""Which manifests have a given subject: an index beside the manifests, and what it takes to trust it.

An entry per (subject, referrer) holds the descriptor that a list shows. It counts only while the
referrer's revision link exists, so a crash between the two cannot list what is gone, and deleting
needs no care about order. Everything here can be rebuilt from the manifests.

Two older sources are merged in (distribution-spec "Enabling the Referrers API"): manifests that were
pushed through a registry without the index, found by one scan per repository that leaves the mark
`complete`; and the index that such a client keeps under the fallback tag `sha256-<hex>`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

from storage import layout, links
from storage.driver import Driver
from storage.driver_errors import DriverError, ObjectNotFound
from storage.model import strictjson
from storage.model.digest import HEX_LENGTHS, Digest
from storage.model.errors import ManifestUnknown, RegistryError
from storage.model.manifest import Manifest
from storage.model.reference import RepositoryName, Tag
from storage.tags import Tags

log = logging.getLogger("holdfast.storage")

P = ParamSpec("P")

Descriptor = dict[str, Any]
"""As it stands in the list; JSON."""

Load = Callable[[Digest], Manifest]
"""A manifest of the repository; raises ManifestUnknown, ManifestInvalid, DigestInvalid."""


def describe(digest: Digest, manifest: Manifest) -> Descriptor:
    """The descriptor of a referrer (distribution-spec "Listing Referrers")."""
    descriptor: Descriptor = {
        "mediaType": manifest.media_type,
        "digest": str(digest),
        "size": len(manifest.content),
    }
    if manifest.artifact_type:
        descriptor["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        descriptor["annotations"] = dict(manifest.annotations)
    return descriptor


def enter(driver: Driver, name: RepositoryName, digest: Digest, manifest: Manifest) -> None:
    """Note the manifest as a referrer of its subject, if it has one."""
    if manifest.subject is not None:
        key = layout.referrer(name, manifest.subject.digest, digest)
        content = json.dumps(describe(digest, manifest), separators=(",", ":"))
        driver.write(key, content.encode("utf-8"))


def fallback_tag(subject: Digest) -> Tag:
    """Referrers Tag Schema: each part cut to length, what a tag cannot hold replaced."""
    text = f"{subject.algorithm[:32]}-{subject.hex[:64]}"
    return Tag(re.sub(r"[^A-Za-z0-9._-]", "-", text))


class Referrers:
    """The referrers of one repository."""

    def __init__(self, driver: Driver, name: RepositoryName, tags: Tags, load: Load) -> None:
        self._driver = driver
        self._name = name
        self._tags = tags
        self._load = load

    def add(self, digest: Digest, manifest: Manifest) -> None:
        enter(self._driver, self._name, digest, manifest)

    def remove(self, digest: Digest, subject: Digest) -> None:
        self._driver.delete_many([layout.referrer(self._name, subject, digest)])
        self._driver.prune(layout.referrers_of(self._name, subject))

    def list(self, subject: Digest) -> dict[Digest, Descriptor]:
        """All of them, in the order of their digests. Empty if nobody knows the subject."""
        found = self._scanned(subject)
        found.update(self._indexed(subject))
        for digest in self._fallback(subject):
            if digest in found or (manifest := self._readable(digest)) is None:
                continue
            if manifest.subject is not None and manifest.subject.digest == subject:
                found[digest] = describe(digest, manifest)
        return {digest: found[digest] for digest in sorted(found, key=str)}

    def _indexed(self, subject: Digest) -> Iterator[tuple[Digest, Descriptor]]:
        prefix = layout.referrers_of(self._name, subject)
        for algorithm in HEX_LENGTHS:
            for child in self._driver.list(f"{prefix}/{algorithm}"):
                digest = links.parse(f"{algorithm}:{child.name}".encode(), f"{prefix}/{child.name}")
                if digest is None or not self._exists(digest):
                    continue
                descriptor = self._entry(subject, digest)
                if descriptor is not None:
                    yield digest, descriptor

    def _entry(self, subject: Digest, digest: Digest) -> Descriptor | None:
        try:
            value = strictjson.loads(
                self._driver.read(layout.referrer(self._name, subject, digest))
            )
        except (ObjectNotFound, strictjson.NotStrictJson):
            manifest = self._readable(digest)
            return None if manifest is None else describe(digest, manifest)
        return value if isinstance(value, dict) else None

    def _fallback(self, subject: Digest) -> Iterator[Digest]:
        current = self._tags.current(fallback_tag(subject))
        index = None if current is None else self._readable(current)
        for child in index.children if index is not None else ():
            yield child.digest

    def _scanned(self, subject: Digest) -> dict[Digest, Descriptor]:
        """Look once at every manifest that was there before the index was; what it says of `subject`.

        Manifests pushed meanwhile enter themselves, so the scan and pushes may overlap. Where nothing
        can be written the question is answered all the same; a repository that does not exist does
        not begin to by being asked about.
        """
        mark = layout.referrers_complete(self._name)
        try:
            self._driver.stat(mark)
            return {}
        except ObjectNotFound:
            pass
        found: dict[Digest, Descriptor] = {}
        seen, writable = 0, True
        for digest in revisions(self._driver, self._name):
            seen += 1
            manifest = self._readable(digest)
            if manifest is None or manifest.subject is None:
                continue
            if manifest.subject.digest == subject:
                found[digest] = describe(digest, manifest)
            writable = writable and self._attempt(self.add, digest, manifest)
        if seen and writable:
            self._attempt(self._driver.write, mark, b"")
        return found

    def _attempt(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            step(*args, **kwargs)
        except DriverError as error:
            log.warning("index of referrers of %s not completed: %s", self._name, error)
            return False
        return True

    def _readable(self, digest: Digest) -> Manifest | None:
        """None for what is gone, or is no manifest of today's types; storage failures are raised."""
        try:
            return self._load(digest)
        except ManifestUnknown:
            return None
        except RegistryError as error:
            if error.code in {"MANIFEST_INVALID", "DIGEST_INVALID"}:
                return None
            raise

    def _exists(self, digest: Digest) -> bool:
        return links.read(self._driver, layout.revision(self._name, digest)) is not None


def revisions(driver: Driver, name: RepositoryName) -> Iterator[Digest]:
    """Every manifest of a repository, in no order."""
    prefix = layout.revisions(name)
    for algorithm in HEX_LENGTHS:
        for child in driver.list(f"{prefix}/{algorithm}"):
            digest = links.parse(f"{algorithm}:{child.name}".encode(), f"{prefix}/{child.name}")
            if digest is not None and links.read(driver, layout.revision(name, digest)) is not None:
                yield digest
