"""Which names below `tags/` are tags, remembered where the driver can tell that the names are the same.

A name is a tag if its link is there and names a manifest, which takes two reads to know. A tag that is
pushed or deleted comes or goes with its name. So of the names that are still there, those that were tags
are; those that came are looked at, and those that were no tags, of which a push or a deletion was cut
short, are looked at each time. What can happen to a tag while its name stays, or goes and comes again
between two lists:

- A deletion could not remove the directory, because somebody put something in it. Then prune() gives
  another edition to the directory above `tags/` as well, which hardly ever has one for other reasons, and
  everything is looked at again.
- A deletion ended between link and directory: its process died, or the storage failed. Nobody was told
  that it was done.
- After a deletion only the first half of a new push of the tag is there: the list is ahead of the push,
  for good if that has died.
- A manifest was deleted while another node set a tag to it. Neither waits for the other.
- Somebody removed a file by hand, or the link of a lost manifest by `registry fsck --repair`, and the
  directories stayed; or removed a tag without the right to write to the directories above.

All but the first show after TRUSTED. Until then a list has a name too many, of which every other request
says that there is no such tag, just as when a tag is deleted right after the list. A tag that is there is
never left out.

That is why TRUSTED is minutes: with seconds, who looks once a minute would have everything looked at each
time. With five minutes it is every fifth time at most, and more would save little, as listing the names
costs a tenth of that look.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from storage import layout
from storage.cache import Cache
from storage.driver import Driver
from storage.model.errors import TagInvalid
from storage.model.reference import RepositoryName, Tag

TRUSTED: Final = 300.0
"""Seconds."""
NAMES_REMEMBERED: Final = 50_000
"""Of all repositories together: some 10 MB."""
LOOKED_AT_ONCE: Final = 100
"""Tags whose links are read in one call of the driver. It is by calls that end that a slow storage is told
from one that is silent."""

Look = Callable[[Sequence[str]], Sequence[str]]
"""Which of these names are tags."""

_NAME = attrgetter("value")


@dataclass(frozen=True, slots=True)
class TagList:
    names: AbstractSet[str] = frozenset()
    tags: Sequence[Tag] = ()
    """What there may be, in byte order: those of the names that can be tags."""
    unknown: set[str] = field(default_factory=set)
    """Those of them that were not yet seen to be tags."""

    def page(self, look: Look, *, after: str, limit: int | None) -> tuple[list[Tag], bool]:
        """As Tags.list. Only what is unknown is looked at, and what is found then is known."""
        start = bisect_right(self.tags, after, key=_NAME) if after else 0
        found: list[Tag] = []
        while start < len(self.tags) and (limit is None or len(found) <= limit):
            size = LOOKED_AT_ONCE
            if limit is not None:
                size = min(size, limit + 1 - len(found))
            some = self.tags[start : start + size]
            start += size
            if self.unknown and (new := [tag.value for tag in some if tag.value in self.unknown]):
                self.unknown.difference_update(look(new))
                some = [tag for tag in some if tag.value not in self.unknown]
            found += some
        if limit is None or len(found) <= limit:
            return found, False
        return found[:limit], True

    def relisted(self, driver: Driver, name: RepositoryName) -> TagList:
        """With the names that there are now. Of those, the ones that were known are."""
        names = {*driver.names(layout.tags(name))}
        came, went = names - self.names, self.names - names
        tags, unknown = [*self.tags], self.unknown - went
        if went:
            tags = [tag for tag in tags if tag.value in names]
        for each in came:
            try:
                tags.append(Tag(each))
            except TagInvalid:
                continue
            unknown.add(each)
        tags.sort(key=_NAME)
        return TagList(names, tags, unknown)


@dataclass(frozen=True, slots=True)
class _Kept:
    above: Hashable
    """The edition of the directory above."""
    edition: Hashable | None
    until: float
    list: TagList


class TagLists:
    """The lists of a worker. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: Cache[RepositoryName, _Kept] = Cache(
            NAMES_REMEMBERED, lambda kept: len(kept.list.names) + 1
        )

    def of(self, driver: Driver, name: RepositoryName) -> TagList:
        """With the names that there are now."""
        above = driver.edition(layout.manifests(name))
        if above is None:
            return scan(driver, name)
        edition = driver.edition(layout.tags(name))
        now = self._clock()
        kept = self._kept.get(name)
        if kept is None or kept.above != above or kept.until < now:
            kept = _Kept(above, edition, now + TRUSTED, scan(driver, name))
            self._kept.put(name, kept)
        elif edition is None or kept.edition != edition:
            relisted = kept.list.relisted(driver, name)
            kept = _Kept(above, edition, kept.until, relisted)
            self._kept.put(name, kept)
        return kept.list


def scan(driver: Driver, name: RepositoryName) -> TagList:
    """Without a memory."""
    return TagList().relisted(driver, name)
