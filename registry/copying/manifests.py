"""Manifests of one repository with all that they need, each linked only after what it names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from registry_gc.references import parse as digests_in

from registry.copying.blobs import Blobs, Lost
from registry.copying.crew import Crew, said_of
from registry.copying.report import Report
from registry.copying.trees import Contents
from storage import layout, links
from storage.collection import entries
from storage.collection.entries import Entry
from storage.collection.guard import Guard, Reliance
from storage.driver import Driver
from storage.driver_errors import DriverError, ObjectNotFound
from storage.model import mediatype
from storage.model.descriptor import Descriptor
from storage.model.digest import CANONICAL, Digest
from storage.model.errors import DigestInvalid, ManifestInvalid, RegistryError
from storage.model.manifest import Manifest, stored_media_type
from storage.referrers import enter

LARGEST: Final = 64 * 1024 * 1024
"""Bytes; nothing that was taken for a manifest is larger."""

Spread = Callable[[Callable[[Digest], None], Iterable[Digest]], None]
"""Does something for each: many at once, or one after the other."""


def in_turn(work: Callable[[Digest], None], items: Iterable[Digest]) -> None:
    for item in items:
        work(item)


class Manifests:
    """Thread-safe: that two bring one manifest at once changes nothing."""

    def __init__(
        self,
        source: Driver,
        target: Driver,
        guard: Guard,
        blobs: Blobs,
        crew: Crew,
        report: Report,
        there: Contents,
        here: Contents,
    ) -> None:
        """`there` is what the source has, `here` the target."""
        self._source = source
        self._target = target
        self._guard = guard
        self._blobs = blobs
        self._crew = crew
        self._report = report
        self._name = there.name
        self._there = there
        self.done = set(here.revisions)
        """Linked at the target."""
        self.lost: dict[Digest, str] = {}
        """Not to be copied, and why."""
        self._layers = set(here.layers)

    def bring_layer(self, digest: Digest) -> None:
        """Link it here as it is there. One that leads to nothing is counted; no failure is raised."""
        try:
            self._crew.patiently(lambda: self._link_layer(digest))
        except Lost as lost:
            if not lost.rotten:  # rotten ones were told when they were read
                self._report.count(nowhere=1)
        except (DriverError, RegistryError) as error:
            self._report.problem(
                f"The blob {digest} could not be linked in {self._name}: {said_of(error)}."
            )

    def bring_all(self, wanted: Iterable[Digest], spread: Spread) -> None:
        """Have these manifests at the target, what an index lists before it; else they are in `lost`."""
        waiting: dict[Digest, Collection[Digest]] = dict.fromkeys(wanted, ())
        found: list[tuple[Digest, Collection[Digest]]] = []

        def one(digest: Digest) -> None:
            found.append((digest, self._try(digest)))

        while waiting := {d: first for d, first in waiting.items() if not self._settled(d)}:
            spread(one, [d for d, first in waiting.items() if all(map(self._settled, first))])
            for digest, first in found:
                waiting[digest] = first
                for each in first:
                    waiting.setdefault(each, ())
            found.clear()

    def _settled(self, digest: Digest) -> bool:
        return digest in self.done or digest in self.lost

    def _try(self, digest: Digest) -> Collection[Digest]:
        """Link a manifest, or say which others must be linked first."""
        try:
            return self._crew.patiently(lambda: self._bring(digest))
        except Lost as lost:
            self.lost[digest] = str(lost)
        except (DriverError, RegistryError) as error:
            self.lost[digest] = said_of(error)
        return ()

    def _bring(self, digest: Digest) -> Collection[Digest]:
        stored = links.read(self._source, layout.revision(self._name, digest))
        if stored is None:
            raise Lost(
                digest,
                "its link at the source is damaged or gone (registry fsck --repair mends it)",
            )
        content = self._content(digest, stored)
        manifest = _parsed(content)
        needed: list[Digest] = []
        if manifest is not None:
            if first := [*self._children_first(manifest)]:
                return first
            needed = [self._layer_of(blob.digest) for blob in self._needed(manifest)]
        else:
            for each in _named(content) & self._there.layers - self._layers:
                self.bring_layer(each)
        reliance = self._sure([stored, *needed], [entries.manifest(self._name, digest)])
        self._target.write(layout.revision(self._name, digest), links.encode(stored))
        if manifest is not None:
            enter(self._target, self._name, digest, manifest)
        reliance.confirm()
        self.done.add(digest)
        self._report.count(copied_manifests=1)
        return ()

    def _content(self, digest: Digest, stored: Digest) -> bytes:
        try:
            content = self._source.read(layout.blob(stored), length=LARGEST)
        except ObjectNotFound:
            raise Lost(stored, "the source does not have its bytes") from None
        if not digest.matches(content):
            raise Lost(stored, "its bytes at the source are not what they are called", rotten=True)
        return content

    def _children_first(self, manifest: Manifest) -> Iterator[Digest]:
        """Those that the source has here, and the target has not yet. What it has not is not needed."""
        for child in manifest.children:
            digest = child.digest
            if digest in self.done or child.media_type not in mediatype.MANIFESTS:
                continue
            if digest in self.lost:
                raise Lost(digest, f"it lists {digest}, which is lost: {self.lost[digest]}")
            if digest in self._there.revisions or self.is_linked(digest):
                yield digest

    def _needed(self, manifest: Manifest) -> Iterator[Descriptor]:
        """Its blobs, of which old BuildKit caches list some as children; but for what is kept elsewhere."""
        for blob in manifest.blobs:
            if not mediatype.may_be_elsewhere(blob.media_type) or blob.digest in self._there.layers:
                yield blob
        for child in manifest.children:
            if child.media_type not in mediatype.MANIFESTS and child.digest in self._there.layers:
                yield child

    def _layer_of(self, digest: Digest) -> Digest:
        """Link a blob that a manifest needs, also where the source's link is missing; its stored name."""
        if digest not in self._layers:
            self._link_layer(digest)
        return self._stored(digest)

    def _link_layer(self, digest: Digest) -> None:
        stored = self._stored(digest)
        reliance = self._sure([stored])
        self._target.write(layout.layer(self._name, digest), links.encode(stored))
        reliance.confirm()
        self._layers.add(digest)
        self._report.count(copied_links=1)

    def _stored(self, digest: Digest) -> Digest:
        """Distribution keeps a sha512 push under its sha256, and says so in the link; else they are one."""
        if digest.algorithm == CANONICAL:
            return digest
        return links.read(self._source, layout.layer(self._name, digest)) or digest

    def _sure(self, digests: Collection[Digest], others: Iterable[Entry] = ()) -> Reliance:
        """That all these are at the target, and stay until confirm(). Copies those that are not.

        Raises Lost, Doomed, and the drivers' errors.
        """
        relied = [*map(entries.blob, digests), *others]
        reliance = self._guard.rely(relied)
        absent = [digest for digest in digests if not self._blobs.is_there(digest)]
        if absent:
            for digest in absent:
                self._blobs.copy(digest)
            reliance = self._guard.rely(relied)
        return reliance

    def is_linked(self, digest: Digest) -> bool:
        """At the source, now."""
        try:
            self._source.stat(layout.revision(self._name, digest))
        except ObjectNotFound:
            return False
        return True


def _parsed(content: bytes) -> Manifest | None:
    """None for a type that is no longer taken: what it needs cannot be told for sure."""
    try:
        return Manifest.parse(content, stored_media_type(content))
    except (ManifestInvalid, DigestInvalid):
        return None


def _named(content: bytes) -> frozenset[Digest]:
    try:
        return digests_in(content).digests
    except (ValueError, RecursionError):
        return frozenset()
