"""Which names below `tags/` are tags, remembered where the driver can tell that the names are the same.

A name is a tag if its link is there and names a manifest, which takes two reads to know. A tag that was
pushed or deleted is a name that came or went, so while the names are the same, those that were tags are,
and only the others, of which a push or a deletion was cut short, are looked at again. What changes a
link and no name was never answered as done (a node that died in a deletion) or was nobody's request (a
file removed by hand): it shows after TRUSTED.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from storage import layout
from storage.cache import Cache
from storage.driver import Driver
from storage.model.errors import TagInvalid
from storage.model.reference import RepositoryName, Tag

TRUSTED: Final = 10.0
"""Seconds."""
NAMES_REMEMBERED: Final = 50_000
"""Of all repositories together: some 10 MB."""


@dataclass(frozen=True, slots=True)
class TagList:
    names: tuple[Tag, ...]
    """All that there may be, in byte order."""
    known: set[str] = field(default_factory=set)
    """Those of them that were seen to be tags."""


@dataclass(frozen=True, slots=True)
class _Kept:
    edition: Hashable
    until: float
    tags: TagList


class TagLists:
    """The lists of a worker. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: Cache[RepositoryName, _Kept] = Cache(
            NAMES_REMEMBERED, lambda kept: len(kept.tags.names) + 1
        )

    def of(self, driver: Driver, name: RepositoryName) -> TagList:
        """As it is now. What the caller finds out it adds to `known`."""
        edition = driver.edition(layout.tags(name))
        if edition is None:
            return scan(driver, name)
        now = self._clock()
        kept = self._kept.get(name)
        if kept is None or kept.edition != edition or kept.until < now:
            kept = _Kept(edition, now + TRUSTED, scan(driver, name))
            self._kept.put(name, kept)
        return kept.tags


def scan(driver: Driver, name: RepositoryName) -> TagList:
    found = []
    for child in driver.list(layout.tags(name)):
        try:
            found.append(Tag(child.name))
        except TagInvalid:
            continue
    found.sort(key=lambda tag: tag.value)
    return TagList(tuple(found))
