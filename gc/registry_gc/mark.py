"""One pass over the tree: what is needed, and what is not.

Whoever relies on this pass must not have to know when in it a thing was looked at: a link that was
there during all of it is seen, one that came or went may be seen or not. The protocol around it is made
for that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from registry_gc.blob_listing import Blob, BlobListing, list_blobs
from registry_gc.liveness import wanted
from registry_gc.look import Look
from registry_gc.references import ReferenceReader, References
from registry_gc.spill import SHARDS
from registry_gc.survey import Links, survey
from storage import layout, links
from storage.collection import entries
from storage.collection.entries import Entry
from storage.driver import Driver
from storage.model.digest import CANONICAL, Digest
from storage.model.reference import Tag


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that no link in the tree needs."""

    modified: float
    size: int = 0
    is_blob: bool = True
    links: tuple[str, ...] = ()
    """Keys of the layer links that go before it."""


class Mark:
    """run() once, then garbage() of each shard that the look has not judged, once, in order."""

    def __init__(
        self,
        driver: Driver,
        references: ReferenceReader,
        pool: Executor,
        look: Look,
        *,
        expected: int,
        untagged_before: float | None,
        links: bool,
        beat: Callable[[str, int, float | None], None],
    ) -> None:
        """Goes on with `look`. `expected`: about how many blobs there are.

        `untagged_before`: by the store's clock; an untagged manifest linked before that may go. `links`:
        whether garbage is to have its links, which only who removes it needs to know. `beat` is called
        between any two repositories and shards, and may raise to stop.
        """
        self._driver = driver
        self._references = references
        self._pool = pool
        self._untagged_before = untagged_before
        self._with_links = links
        self._beat = beat
        self._look = look
        self._needed = look.needed
        self._needed_now: Mapping[str, str | set[str]] = {}
        self._links = look.links
        self._manifests = look.manifests
        self._blobs: BlobListing | None = None
        self._expected = expected
        self._names = look.names
        self.totals = look.totals

    def run(self) -> None:
        """Raises Undecodable, the driver's errors, and what `beat` raises."""
        if self._look.surveyed:
            return
        for found in survey(self._driver, layers=self._with_links, after=self._look.after):
            self._beat("repositories", self.totals.repositories, None)
            self._look_at(found)
        self._references.forget_others(self._names)
        self._look.settle({})
        self._look.surveyed = True

    def garbage(self, shard: int) -> dict[Entry, Garbage]:
        """All entries of the shard that are not needed, whatever their age. Raises as run()."""
        self._beat("blobs", self.totals.blobs, shard / SHARDS)
        if self._blobs is None:  # not before all links were seen
            self._blobs = list_blobs(self._driver, self._pool, self._expected, first=shard)
        self._needed_now = self._needed_in(shard)
        dead = self._without_need(self._blobs.shard(shard))
        linked = self._links_in(shard, dead)
        found = {
            entries.blob(Digest.parse(digest)): replace(each, links=tuple(linked.get(digest, ())))
            for digest, each in dead.items()
        }
        for line in self._manifests.lines(shard):
            entry, _, modified = line.rpartition(" ")
            found[entry] = Garbage(float(modified), is_blob=False)
        return found

    def needs(self, entry: Entry) -> bool:
        """Whether a blob of the shard that garbage() was last asked for is needed."""
        return entry.removeprefix(entries.BLOB) in self._needed_now

    def _look_at(self, found: Links) -> None:
        number = len(self._names)
        manifests = self._references.of(found.name, found.revisions)
        needed = set(manifests)
        for references in manifests.values():
            if references is not None:
                needed |= references.digests
        for digest in needed:
            self._need(found, digest, number)
        for layer in found.layers if self._with_links else ():
            key = layout.layer(found.name, layer)
            for target in self._names_of(layer, key):
                self._links.add(_shard(target), f"{target} {key}")
        if self._untagged_before is not None:
            self._find_untagged(found, manifests, self._untagged_before)
        self._surveyed(found, manifests)

    def _surveyed(self, found: Links, manifests: Mapping[Digest, References | None]) -> None:
        """Last: of a repository that a run did not get through the lines may come twice."""
        totals = self.totals
        totals.repositories += 1
        totals.tags += len(found.tags)
        totals.manifests += len(manifests)
        totals.dangling += sum(references is None for references in manifests.values())
        self._names.append(str(found.name))
        self._look.after = str(found.name)

    def _need(self, found: Links, digest: Digest, number: int) -> None:
        """Distribution keeps what is pushed by sha512 under its sha256, and the name in the link."""
        self._needed.add(_shard(digest), f"{digest} {number}")
        if digest.algorithm != CANONICAL:
            for key in (layout.layer(found.name, digest), layout.revision(found.name, digest)):
                for target in self._names_of(digest, key):
                    self._needed.add(_shard(target), f"{target} {number}")

    def _names_of(self, digest: Digest, key: str) -> set[Digest]:
        """The digest of a link's place, and the one in it, if they can differ."""
        if digest.algorithm == CANONICAL:
            return {digest}
        target = links.read(self._driver, key)
        return {digest} if target is None else {digest, target}

    def _find_untagged(
        self, found: Links, manifests: Mapping[Digest, References | None], before: float
    ) -> None:
        roots = self._tagged(found)
        roots |= {digest for digest, modified in found.revisions.items() if modified >= before}
        for digest in manifests.keys() - wanted(roots, manifests):
            line = f"{entries.manifest(found.name, digest)} {found.revisions[digest]}"
            self._manifests.add(_shard(digest), line)

    def _tagged(self, found: Links) -> set[Digest]:
        """What the tags name. A link whose fingerprint says which revision it names is not fetched."""

        def current(tag: Tag) -> Digest | None:
            return links.read(self._driver, layout.tag_current(found.name, tag))

        known: dict[str, Digest] = {}
        if any(found.tags.values()):
            known = {links.fingerprint(digest): digest for digest in found.revisions}
        tagged = {known[each] for each in found.tags.values() if each in known}
        unknown = [tag for tag, each in found.tags.items() if each not in known]
        at_once = self._pool.map if self._driver.remote else map
        tagged.update(digest for digest in at_once(current, unknown) if digest is not None)
        return tagged

    def _needed_in(self, shard: int) -> dict[str, str | set[str]]:
        """By which repositories, for each digest. Most blobs are in one."""
        needed: dict[str, str | set[str]] = {}
        for line in self._needed.lines(shard):
            digest, _, number = line.partition(" ")
            name = self._names[int(number)]
            known = needed.setdefault(digest, name)
            if isinstance(known, set):
                known.add(name)
            elif known is not name:
                needed[digest] = {known, name}
        return needed

    def _without_need(self, blobs: Iterable[Blob]) -> dict[str, Garbage]:
        """Those of the shard whose needs are known. Counts all."""
        totals, needed = self.totals, self._needed_now
        unique, shared = totals.unique, totals.shared
        dead: dict[str, Garbage] = {}
        for digest, size, modified in blobs:
            totals.blobs += 1
            totals.bytes += size
            by = needed.get(digest)
            if by is None:
                dead[digest] = Garbage(modified, size)
                continue
            totals.live_blobs += 1
            totals.live_bytes += size
            if isinstance(by, str):
                unique[by] = unique.get(by, 0) + size
            else:
                for name in by:
                    shared[name] = shared.get(name, 0) + size
        return dead

    def _links_in(self, shard: int, dead: Collection[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in self._links.lines(shard):
            digest, _, key = line.partition(" ")
            if digest in dead:
                found.setdefault(digest, []).append(key)
        return found


def shards(mark: Mark, first: int = 0) -> Iterator[tuple[int, dict[Entry, Garbage]]]:
    for shard in range(first, SHARDS):
        yield shard, mark.garbage(shard)


def _shard(digest: Digest) -> int:
    return int(digest.hex[:2], 16)
