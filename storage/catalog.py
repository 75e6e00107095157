"""The list of repositories, a page at a time, without walking what is not on the page.

Order is that of `name + "/"`, byte by byte, which is the order of keys in an object store, so a page
can begin anywhere without a look at what comes before it: `a-b`, `a`, `a/b`.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final

from storage import layout
from storage.cache import Cache
from storage.catalog_index import CatalogIndex
from storage.driver import Child, Driver
from storage.driver_errors import Unavailable
from storage.model.errors import NameInvalid
from storage.model.reference import RepositoryName
from storage.presence import exists
from storage.translation import translated

log = logging.getLogger("holdfast.storage")


NAMES_REMEMBERED: Final = 20_000
"""With the directories that hold them: some 8 MB."""

Names = tuple[RepositoryName, ...]


class Catalog:
    def __init__(self, driver: Driver, index: CatalogIndex | None = None) -> None:
        """With a complete `index`, that is read instead of the tree."""
        self._driver = driver
        self._index = index
        self._kept: Cache[str, tuple[Hashable, Names]] = Cache(
            NAMES_REMEMBERED, lambda kept: len(kept[1]) + 1
        )

    @translated
    def list(
        self,
        *,
        after: str = "",
        limit: int,
        shown: Callable[[RepositoryName], bool] | None = None,
    ) -> tuple[list[RepositoryName], bool]:
        """At most `limit` names after `after`, and whether there are more; only those `shown`, if given.

        What is not shown leaves no trace: neither a gap nor a hint that there is more. A repository
        that this process may not read is left out with a warning, so that one wrong permission does
        not hide all the others. Any other failure is raised: nobody may take it for an absence.
        """
        found: list[RepositoryName] = []
        for name in filter(shown, self.walk(after=after, lenient=True)):
            if len(found) == limit:
                return found, True
            found.append(name)
        return found, False

    def walk(self, *, after: str = "", lenient: bool = False) -> Iterator[RepositoryName]:
        """Every repository after `after`, in order. Raises the driver's errors.

        `lenient` leaves out those that may not be read, with a warning.
        """
        if self._index is not None and self._index.is_complete():
            return self._index.names(after=after)
        return self._below("", after, lenient)

    def _below(self, parent: str, after: str, lenient: bool) -> Iterator[RepositoryName]:
        """`after` is below `parent`, or empty; only its first component matters on this level."""
        first, _, rest = after.partition("/")
        if first:
            yield from self._below(f"{parent}{first}/", rest, lenient)
        prefix = f"{layout.REPOSITORIES}/{parent}".rstrip("/")
        try:
            for name in self._names(prefix, parent, first):
                if self._has_manifests(name, lenient):
                    yield name
                yield from self._below(f"{name}/", "", lenient)
        except Unavailable as error:
            if not lenient or prefix == layout.REPOSITORIES:
                raise
            _leave_out(error)

    def _names(self, prefix: str, parent: str, after: str) -> Iterable[RepositoryName]:
        """What may be a repository, or have some below it; from memory while it is the same."""
        edition = self._driver.edition(prefix)
        if edition is None:
            return _names(self._driver.list(prefix, after=after), parent)
        kept = self._kept.get(prefix)
        if kept is None or kept[0] != edition:
            kept = edition, tuple(_names(self._driver.list(prefix), parent))
            self._kept.put(prefix, kept)
        if not after:
            return kept[1]
        start = f"{parent}{after}/"
        return kept[1][bisect_right(kept[1], start, key=lambda name: f"{name}/") :]

    def _has_manifests(self, name: RepositoryName, lenient: bool) -> bool:
        try:
            return exists(self._driver, name)
        except Unavailable as error:
            if not lenient:
                raise
            _leave_out(error)
            return False


def _names(children: Iterable[Child], parent: str) -> Iterator[RepositoryName]:
    for child in children:
        if not child.is_prefix or child.name.startswith("_"):
            continue
        try:
            yield RepositoryName(f"{parent}{child.name}")
        except NameInvalid:
            continue


def _leave_out(error: Unavailable) -> None:
    """With a warning, if the storage refuses this process; else raise the error."""
    if not isinstance(error.__cause__, PermissionError):
        raise error
    log.warning("left out of the catalog: %s; give the registry access to it", error)
