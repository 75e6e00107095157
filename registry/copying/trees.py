"""The repositories of two storages side by side, in one order, with the links of each.

The order is that of `name + "/_"`, byte by byte: in an object store all keys of a repository stand
together in that order, and a filesystem is walked so that it gives the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import groupby

from storage import layout
from storage.driver import Driver, ObjectInfo
from storage.driver_errors import Unavailable
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid, NameInvalid, TagInvalid
from storage.model.reference import RepositoryName, Tag
from storage.presence import exists

_DIGEST = r"(\w+)/([0-9a-f]+)"
_LAYER = re.compile(rf"_layers/{_DIGEST}/link", re.ASCII)
_REVISION = re.compile(rf"_manifests/revisions/{_DIGEST}/link", re.ASCII)
_CURRENT = re.compile(r"_manifests/tags/([^/]+)/current/link", re.ASCII)
_HISTORY = re.compile(rf"_manifests/tags/([^/]+)/index/{_DIGEST}/link", re.ASCII)
_PULLED = re.compile(r"_holdfast/pulled/([^/]+)", re.ASCII)
_COMPLETE = "_holdfast/referrers/complete"
_COPIED = (layout.MANIFESTS, "_layers", "_holdfast")

Strange = Callable[[str], None]
"""Told the path of what is in the place of a repository and can be none."""


@dataclass(slots=True)
class Contents:
    """Of one repository. What is in the links is not known; times are the store's."""

    name: RepositoryName
    exists: bool = False
    """It has, or once had, a manifest."""
    layers: set[Digest] = field(default_factory=set)
    revisions: set[Digest] = field(default_factory=set)
    tags: dict[Tag, float] = field(default_factory=dict)
    history: dict[Tag, set[Digest]] = field(default_factory=dict)
    pulled: dict[Tag, float] = field(default_factory=dict)
    referrers_complete: bool = False

    def add(self, place: str, modified: float) -> None:
        """`place` is the key below the repository; what is nobody's there is passed over."""
        self.exists = self.exists or place.startswith(f"{layout.MANIFESTS}/")
        try:
            if match := _LAYER.fullmatch(place):
                self.layers.add(Digest(match[1], match[2]))
            elif match := _REVISION.fullmatch(place):
                self.revisions.add(Digest(match[1], match[2]))
            elif match := _CURRENT.fullmatch(place):
                self.tags[Tag(match[1])] = modified
            elif match := _HISTORY.fullmatch(place):
                past = self.history.setdefault(Tag(match[1]), set())
                past.add(Digest(match[2], match[3]))
            elif match := _PULLED.fullmatch(place):
                self.pulled[Tag(match[1])] = modified
            elif place == _COMPLETE:
                self.referrers_complete = True
        except (DigestInvalid, TagInvalid):
            return

    def history_of(self, tag: Tag) -> Set[Digest]:
        return self.history.get(tag, frozenset())


def pairs(source: Driver, target: Driver, strange: Strange) -> Iterator[tuple[Contents, Contents]]:
    """Every repository that either has, as each has it. Raises the drivers' errors."""
    there, here = contents(source, strange), contents(target, lambda _: None)
    left, right = next(there, None), next(here, None)
    while left is not None or right is not None:
        if right is None or (left is not None and _order(left.name) < _order(right.name)):
            assert left is not None  # noqa: S101 - one of them is there
            yield left, Contents(left.name)
            left = next(there, None)
        elif left is None or _order(right.name) < _order(left.name):
            yield Contents(right.name), right
            right = next(here, None)
        else:
            yield left, right
            left, right = next(there, None), next(here, None)


def contents(driver: Driver, strange: Strange) -> Iterator[Contents]:
    """Every repository of a storage. Raises the driver's errors; Unavailable if the order is wrong."""
    last = ""
    for name, infos in _flat(driver) if driver.remote else _tree(driver, ""):
        try:
            found = Contents(RepositoryName(name))
        except NameInvalid:
            strange(f"{layout.REPOSITORIES}/{name}")
            for _ in infos:
                pass
            continue
        if _order(name) <= last:
            raise Unavailable(f"the store lists {name} out of order")
        last = _order(name)
        start = len(layout.repository(found.name)) + 1
        for info in infos:
            found.add(info.key[start:], info.modified)
        found.exists = found.exists or exists(driver, found.name)
        yield found


def _order(name: RepositoryName | str) -> str:
    return f"{name}/_"


def _flat(driver: Driver) -> Iterator[tuple[str, Iterable[ObjectInfo]]]:
    start = len(layout.REPOSITORIES) + 1

    def name_of(info: ObjectInfo) -> str:
        return info.key[start:].partition("/_")[0]

    yield from groupby(driver.walk(layout.REPOSITORIES), key=name_of)


def _tree(driver: Driver, parent: str) -> Iterator[tuple[str, Iterable[ObjectInfo]]]:
    """`parent` is empty or ends with a slash; its own place is where `_` is among its children."""
    above = f"{layout.REPOSITORIES}/{parent}".rstrip("/")
    told = not parent
    for child in driver.list(above):
        if child.name.startswith("_"):
            if child.name in _COPIED and not told:
                told = True
                yield parent.rstrip("/"), _links(driver, above)
        elif child.is_prefix:
            yield from _tree(driver, f"{parent}{child.name}/")


def _links(driver: Driver, repository: str) -> Iterator[ObjectInfo]:
    """Manifests before layers: what a manifest needs was linked before it."""
    for part in _COPIED:
        yield from driver.walk(f"{repository}/{part}")
