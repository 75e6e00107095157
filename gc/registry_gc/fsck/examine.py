"""One look at every repository: its links, its manifests with all that they name, and its tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from registry_gc.fsck.findings import Finding, Kind, Summary
from registry_gc.fsck.repair import Repairs
from registry_gc.outcome import Undecodable
from registry_gc.survey import Links, survey
from storage import layout, links
from storage.cache import Cache
from storage.driver import Driver
from storage.driver_errors import Conflict, ObjectNotFound
from storage.model import mediatype
from storage.model.descriptor import Descriptor
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid, ManifestInvalid, RegistryError
from storage.model.manifest import SIZE_LIMIT, Manifest, stored_media_type
from storage.model.reference import RepositoryName, Tag

SIZES_REMEMBERED = 200_000
Report = Callable[[Finding], None]


class Examination:
    """Holds one repository at a time in memory. `repairs` None looks only."""

    def __init__(
        self,
        driver: Driver,
        repairs: Repairs | None,
        report: Report,
        seen: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """`seen` is given the bytes of every manifest that is what it is called."""
        self._seen = seen
        self._driver = driver
        self._repairs = repairs
        self._report = report
        self._sizes: Cache[Digest, int] = Cache(SIZES_REMEMBERED)
        self.summary = Summary()

    def run(self) -> None:
        """Raises the driver's errors: what could not be looked at is not called sound."""
        try:
            for found in survey(self._driver):
                self.summary.repositories += 1
                self._repository(found)
        except Undecodable as error:
            self._find(Kind.STRANGE_NAME, "", str(error))

    def _repository(self, found: Links) -> None:
        for digest in found.revisions:
            self.summary.manifests += 1
            self._revision(found, digest)
        for digest in found.layers:
            self._layer(found, digest)
        for tag in found.tags:
            self._tag(found.name, tag)

    def _tag(self, name: RepositoryName, tag: Tag) -> None:
        key = layout.tag_current(name, tag)
        held = self._read(key)
        if held is None:  # its history alone
            self.summary.cut_short += 1
            if self._repairs is not None:
                self._repairs.forget_tag(name, tag, None)
            return
        self.summary.tags += 1
        target = _target(held)
        if target is None or links.read(self._driver, layout.revision(name, target)) is None:
            self._find(
                Kind.GHOST_TAG,
                key,
                f"The tag {name}:{tag} names {target or 'nothing'}, which is not there, and is absent "
                "from every answer.",
                lambda: self._do().forget_tag(name, tag, held),
            )

    def _revision(self, found: Links, digest: Digest) -> None:
        key = layout.revision(found.name, digest)
        target = _target(self._read(key) or b"")
        content = self._content(target or digest)
        if content is None:
            self._find(
                Kind.MANIFEST_MISSING,
                key,
                f"The manifest {found.name}@{digest} is linked, and its bytes are not there: push it "
                "again, or delete it.",
            )
            return
        if not digest.matches(content):
            self._find(
                Kind.MANIFEST_DAMAGED,
                layout.blob(target or digest),
                f"The bytes of the manifest {found.name}@{digest} are not what they are called: push it "
                "again.",
                lambda: self._do().set_aside(target or digest),
            )
            return
        self._seen(content)
        if target is None:
            self._find(
                Kind.DAMAGED_LINK,
                key,
                f"The link of the manifest {found.name}@{digest} is empty or damaged, so it is absent.",
                lambda: self._do().link_manifest(found.name, digest),
            )
        for descriptor, is_child in self._named(found, digest, content):
            if is_child:
                self._child(found, digest, descriptor)
            else:
                self._blob(found, digest, descriptor)

    def _named(
        self, found: Links, digest: Digest, content: bytes
    ) -> Iterator[tuple[Descriptor, bool]]:
        """Of types that are no longer taken nothing is said."""
        try:
            manifest = Manifest.parse(content, stored_media_type(content))
        except (ManifestInvalid, DigestInvalid):
            return
        for descriptor in manifest.blobs:
            yield descriptor, False
        for descriptor in manifest.children:
            yield descriptor, descriptor.media_type in mediatype.MANIFESTS

    def _child(self, found: Links, parent: Digest, child: Descriptor) -> None:
        if child.digest in found.revisions:
            return
        content = self._content(child.digest)
        key = layout.revision(found.name, child.digest)
        whole = content is not None and child.digest.matches(content)
        self._find(
            Kind.CHILD_UNLINKED if whole else Kind.CHILD_MISSING,
            key,
            f"The index {found.name}@{parent} lists {child.digest}, which this repository does not have"
            f"{', though its bytes are there' if whole else ': push it, if it is wanted'}.",
            (lambda: self._do().link_manifest(found.name, child.digest)) if whole else None,
        )

    def _blob(self, found: Links, parent: Digest, blob: Descriptor) -> None:
        key = layout.layer(found.name, blob.digest)
        link = self._read(key) if blob.digest in found.layers else None
        stored = _target(link or b"")
        size = self._size(stored or blob.digest)
        if size is None:
            if not mediatype.may_be_elsewhere(blob.media_type):
                self._find(
                    Kind.BLOB_MISSING,
                    layout.blob(stored or blob.digest),
                    f"The manifest {found.name}@{parent} needs {blob.digest}, which is not there: push "
                    "the image again.",
                )
            return
        if size != blob.size:
            self._find(
                Kind.BLOB_DAMAGED,
                layout.blob(stored or blob.digest),
                f"The manifest {found.name}@{parent} says that {blob.digest} has {blob.size} bytes, and "
                f"it has {size}: `--scrub` tells which of them is wrong; a push mends the blob.",
            )
        if link is None:
            self._find(
                Kind.LINK_MISSING,
                key,
                f"The manifest {found.name}@{parent} needs {blob.digest}, which is there and not linked "
                "in this repository, so no pull gets it.",
                lambda: self._do().link(key, blob.digest),
            )

    def _layer(self, found: Links, digest: Digest) -> None:
        key = layout.layer(found.name, digest)
        content = self._read(key)
        if content is None:
            return
        target = _target(content)
        if self._size(target or digest) is None:
            self._find(
                Kind.DANGLING_LINK,
                key,
                f"The blob {digest} is linked in {found.name} and not there; it counts as absent.",
                lambda: self._do().unlink(key),
            )
        elif target is None:
            self._find(
                Kind.DAMAGED_LINK,
                key,
                f"The link of the blob {digest} in {found.name} is empty or damaged, so it is absent.",
                lambda: self._do().link(key, digest),
            )

    def _find(
        self, kind: Kind, key: str, sentence: str, repair: Callable[[], None] | None = None
    ) -> None:
        repaired = False
        if repair is not None and self._repairs is not None:
            try:
                repair()
                repaired = True
            except (RegistryError, ObjectNotFound, Conflict) as error:
                sentence += f" It was not repaired: {error}"
        finding = Finding(kind, key, sentence, repaired)
        self.summary.count(finding)
        self._report(finding)

    def _do(self) -> Repairs:
        assert self._repairs is not None  # noqa: S101 - _find() has looked
        return self._repairs

    def _read(self, key: str) -> bytes | None:
        return links.content(self._driver, key)

    def _content(self, digest: Digest) -> bytes | None:
        try:
            return self._driver.read(layout.blob(digest), length=SIZE_LIMIT + 1)
        except ObjectNotFound:
            return None

    def _size(self, digest: Digest) -> int | None:
        size = self._sizes.get(digest)
        if size is None:
            try:
                size = self._driver.stat(layout.blob(digest)).size
            except ObjectNotFound:
                return None
            self._sizes.put(digest, size)
        return size


def _target(content: bytes) -> Digest | None:
    try:
        return Digest.parse(content.decode("ascii").strip())
    except (UnicodeDecodeError, DigestInvalid):
        return None
