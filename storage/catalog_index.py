"""Where storage is remote: one small object per repository, so that the catalog is a listing of a thousand
names per request, whatever the repositories hold.

An entry is written before the first manifest of a repository, and found again by a walk of the whole tree
for repositories that others have written (CNCF Distribution, or Holdfast on a filesystem that was copied).
Until such a walk has been completed once, the catalog is read from the tree itself. Like all that is
ours, the index can be deleted at any time; the next walk makes it anew.

A name is kept in hexadecimal with a slash at its end, which keeps the catalog's order in one flat level.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from storage import layout
from storage.cache import Cache
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.errors import NameInvalid
from storage.model.reference import RepositoryName
from storage.translation import translated

log = logging.getLogger("holdfast.storage")

REMEMBERED = 100_000
YOUNG = 3600.0
"""Seconds: an entry so new may be of a push that is still going on."""


class CatalogIndex:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._entered: Cache[RepositoryName, bool] = Cache(REMEMBERED)
        self._complete = False

    def enter(self, name: RepositoryName) -> None:
        """Make the repository appear. One write, the first time that this process sees it."""
        if self._entered.get(name) is None:
            self._driver.write(_key(name), b"")
            self._entered.put(name, True)

    def is_complete(self) -> bool:
        """Whether every repository has an entry; asks until it is so."""
        if not self._complete:
            try:
                self._driver.stat(layout.CATALOG_COMPLETE)
            except ObjectNotFound:
                return False
            self._complete = True
        return True

    def names(self, *, after: str = "") -> Iterator[RepositoryName]:
        start = _encoded(after) if after else ""
        for child in self._driver.list(layout.CATALOG, after=start):
            if (name := _decoded(child.name)) is not None:
                yield name

    @translated
    def rebuild(self) -> int:
        """Walk the whole tree, and make the index agree with it; the number of repositories.

        Safe beside pushes and beside another node that does the same.
        """
        begun = time.time()
        found = self._in_tree()
        entered: dict[RepositoryName, float] = {}
        for info in self._driver.walk(layout.CATALOG):
            if (name := _decoded(info.key.rpartition("/")[2])) is not None:
                entered[name] = info.modified
        for name in found - entered.keys():
            self._driver.write(_key(name), b"")
        old = [name for name, modified in entered.items() if modified < begun - YOUNG]
        self._driver.delete_many(_key(name) for name in old if name not in found)
        self._driver.write(layout.CATALOG_COMPLETE, b"")
        return len(found)

    def _in_tree(self) -> set[RepositoryName]:
        texts: set[str] = set()
        for info in self._driver.walk(layout.REPOSITORIES):
            path = info.key[len(layout.REPOSITORIES) + 1 :]
            text, marked, _ = path.partition(f"/{layout.MANIFESTS}/")
            if marked:
                texts.add(text)
        found: set[RepositoryName] = set()
        for text in texts:
            try:
                found.add(RepositoryName(text))
            except NameInvalid:
                log.warning("%s has manifests but is no name of a repository; not listed", text)
        return found


def _key(name: RepositoryName) -> str:
    return f"{layout.CATALOG}/{_encoded(str(name))}"


def _encoded(name: str) -> str:
    return f"{name}/".encode().hex()


def _decoded(component: str) -> RepositoryName | None:
    try:
        return RepositoryName(bytes.fromhex(component).decode("ascii").removesuffix("/"))
    except (ValueError, NameInvalid):
        return None
