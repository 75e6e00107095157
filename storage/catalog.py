"""The list of repositories, a page at a time, without walking what is not on the page.

Order is that of `name + "/"`, byte by byte, which is the order of keys in an object store, so a page
can begin anywhere without a look at what comes before it: `a-b`, `a`, `a/b`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from storage import layout
from storage.catalog_index import CatalogIndex
from storage.driver import Child, Driver, Unavailable
from storage.model.errors import NameInvalid
from storage.model.reference import RepositoryName
from storage.translation import translated

log = logging.getLogger("holdfast.storage")


class Catalog:
    def __init__(self, driver: Driver, index: CatalogIndex | None = None) -> None:
        """With a complete `index`, that is read instead of the tree."""
        self._driver = driver
        self._index = index

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
        return self._below("", after, self._permitted if lenient else self._all)

    def _below(
        self, parent: str, after: str, children: Callable[[str, str], Iterator[Child]]
    ) -> Iterator[RepositoryName]:
        """`after` is below `parent`, or empty; only its first component matters on this level."""
        first, _, rest = after.partition("/")
        if first:
            yield from self._below(f"{parent}{first}/", rest, children)
        for child in children(f"{layout.REPOSITORIES}/{parent}".rstrip("/"), first):
            if not child.is_prefix or child.name.startswith("_"):
                continue
            try:
                name = RepositoryName(f"{parent}{child.name}")
            except NameInvalid:
                continue
            if next(children(layout.manifests(name), ""), None) is not None:
                yield name
            yield from self._below(f"{name}/", "", children)

    def _all(self, prefix: str, after: str) -> Iterator[Child]:
        return self._driver.list(prefix, after=after)

    def _permitted(self, prefix: str, after: str) -> Iterator[Child]:
        """Nothing, with a warning, where the storage refuses this process; not so for the top."""
        try:
            yield from self._driver.list(prefix, after=after)
        except Unavailable as error:
            if prefix == layout.REPOSITORIES or not isinstance(error.__cause__, PermissionError):
                raise
            log.warning("left out of the catalog: %s; give the registry access to it", error)
