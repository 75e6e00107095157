"""Putting back what was removed, as a push of the same manifest would: whole, or not at all.

Content stays for `Options.undo` after it was condemned, so within that time everything is there; and on a
filesystem in the trash for a while after that. What another push has put in its place meanwhile is never
overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from registry_gc import recovering
from storage import layout
from storage.collection.clock import Clock
from storage.collection.journal import Recorded, Removal
from storage.model import mediatype
from storage.model.digest import Digest
from storage.model.errors import (
    Doomed,
    ManifestBlobUnknown,
    ManifestUnknown,
    RegistryError,
    Unavailable,
)
from storage.model.manifest import SIZE_LIMIT, Manifest, stored_media_type
from storage.model.reference import RepositoryName, Tag
from storage.repository import Store

T = TypeVar("T")

PATIENCE = 30
"""How often to ask again, each after DOOM_PAUSE seconds, whether content has escaped its removal."""
DOOM_PAUSE = 5.0
TRIES = 5
SLOW_PAUSE = 1.0
DEEPEST = 10
"""Indexes within indexes."""


@dataclass(frozen=True, slots=True)
class Restored:
    removal: Removal
    done: bool
    sentence: str


class Restorer:
    def __init__(self, store: Store, removed: Iterable[Recorded], clock: Clock) -> None:
        """`removed`: all that the journal has; children of an index are looked for there."""
        self._store = store
        self._clock = clock
        self._known = {(each.removal.repository, each.removal.digest) for each in removed}

    def restore(self, removals: Sequence[Removal]) -> list[Restored]:
        """Newest first: of one tag only the newest is tried. Raises Unavailable."""
        done: set[tuple[RepositoryName, Tag]] = set()
        results = []
        for removal in removals:
            if removal.tag is not None:
                if (removal.repository, removal.tag) in done:
                    continue
                done.add((removal.repository, removal.tag))
            results.append(self._restore(removal))
        return results

    def put(self, name: RepositoryName, digest: Digest, tag: Tag | None) -> None:
        """Make a manifest, whose bytes are there, one of the repository again, and what it needs.

        Raises ManifestUnknown if its bytes are gone, ManifestBlobUnknown if something it needs is.
        """
        self._put(name, digest, tag, DEEPEST)

    def _restore(self, removal: Removal) -> Restored:
        name, digest, tag = removal.repository, removal.digest, removal.tag
        what = f"{name}:{tag}" if tag is not None else f"{name}@{digest}"
        repository = self._store.repository(name)
        try:
            if tag is not None and (held := repository.tags.current(tag)) is not None:
                same = held == digest
                return Restored(
                    removal, same, f"{what} is there: it names {held}, and was left alone."
                )
            self.put(name, digest, tag)
        except Unavailable:
            raise
        except RegistryError as error:
            return Restored(removal, False, f"{what} cannot be restored: {error.message}")
        return Restored(removal, True, f"{what} is restored.")

    def _put(self, name: RepositoryName, digest: Digest, tag: Tag | None, depth: int) -> None:
        content = self._content(digest)
        manifests = self._store.repository(name).manifests
        tags = [] if tag is None else [tag]

        def put() -> None:
            manifests.put(content, stored_media_type(content), digest, tags)

        try:
            self._patiently(put)
        except ManifestBlobUnknown as error:
            missing = [Digest.parse(each) for each in error.missing]
            if not depth or not self._bring_back(name, content, missing, depth - 1):
                raise
            self._patiently(put)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Again, as a client would: what is doomed may escape that, and a slow storage become faster."""
        for number in range(PATIENCE - 1):
            try:
                return attempt()
            except Doomed:
                self._clock.sleep(DOOM_PAUSE)
            except Unavailable:
                if number >= TRIES:
                    raise
                self._clock.sleep(SLOW_PAUSE)
        return attempt()

    def _bring_back(
        self, name: RepositoryName, parent: bytes, missing: Iterable[Digest], depth: int
    ) -> bool:
        """Whether all is there by now that the manifest misses. Raises as put()."""
        manifest = Manifest.parse(parent, stored_media_type(parent))
        children = {
            child.digest for child in manifest.children if child.media_type in mediatype.MANIFESTS
        }
        for digest in missing:
            if digest not in children:
                if not self._patiently(partial(self._link, name, digest)):
                    return False
            elif (name, digest) in self._known:
                self._put(name, digest, None, depth)
            else:
                return False
        return True

    def _link(self, name: RepositoryName, digest: Digest) -> bool:
        return recovering.link(self._store.driver, self._store.guard, name, digest)

    def _content(self, digest: Digest) -> bytes:
        if not recovering.has(self._store.driver, digest):
            raise ManifestUnknown(
                f"The content of {digest} is gone: it was removed longer ago than garbage is kept.",
                {"digest": str(digest)},
            )
        return self._store.driver.read(layout.blob(digest), length=SIZE_LIMIT + 1)
