"""The list of repositories, a page at a time, without walking what is not on the page.

Order is that of `name + "/"`, byte by byte, which is the order of keys in an object store, so a page
can begin anywhere without a look at what comes before it: `a-b`, `a`, `a/b`.
"""

from __future__ import annotations

from collections.abc import Iterator

from storage import layout
from storage.driver import Driver
from storage.model.errors import NameInvalid
from storage.model.reference import RepositoryName
from storage.translation import translated


class Catalog:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @translated
    def list(self, *, after: str = "", limit: int) -> tuple[list[RepositoryName], bool]:
        """At most `limit` names after `after`, and whether there are more."""
        found: list[RepositoryName] = []
        for name in self.walk(after=after):
            if len(found) == limit:
                return found, True
            found.append(name)
        return found, False

    def walk(self, *, after: str = "") -> Iterator[RepositoryName]:
        """Every repository after `after`, in order. Raises the driver's errors."""
        return self._below("", after)

    def _below(self, parent: str, after: str) -> Iterator[RepositoryName]:
        """`after` is below `parent`, or empty; only its first component matters on this level."""
        first, _, rest = after.partition("/")
        if first:
            yield from self._below(f"{parent}{first}/", rest)
        for child in self._driver.list(f"{layout.REPOSITORIES}/{parent}".rstrip("/"), after=first):
            if not child.is_prefix or child.name.startswith("_"):
                continue
            try:
                name = RepositoryName(f"{parent}{child.name}")
            except NameInvalid:
                continue
            if exists(self._driver, name):
                yield name
            yield from self._below(f"{name}/", "")


def exists(driver: Driver, name: RepositoryName) -> bool:
    """Whether `name` is a repository: whether it ever had a manifest."""
    return next(iter(driver.list(layout.manifests(name))), None) is not None
