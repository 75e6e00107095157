"""Every repository of a tree, with all its links: one listing from end to end, or a directory at a time.

A name that vanishes while it is looked at is left out, and nothing else with it. Any other failure is
raised: what was not seen must never be taken for what is not there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from registry_gc.outcome import Undecodable
from storage import layout
from storage.driver import Driver, ObjectInfo, Unavailable
from storage.model.digest import HEX_LENGTHS, Digest
from storage.model.errors import DigestInvalid, NameInvalid, TagInvalid
from storage.model.reference import RepositoryName, Tag

log = logging.getLogger("holdfast.collection")

_LINK = re.compile(
    r"_manifests/revisions/(?P<revision>\w+/[0-9a-f]+)/link"
    r"|_layers/(?P<layer>\w+/[0-9a-f]+)/link"
    r"|_manifests/tags/(?P<tag>[^/]+)/current/link",
    re.ASCII,
)


@dataclass(slots=True)
class Links:
    """Of one repository. Digests come from the links' places: what is in them may be damaged."""

    name: RepositoryName
    revisions: dict[Digest, float] = field(default_factory=dict)
    """When each was last written, by the store's clock."""
    layers: list[Digest] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)

    def add(self, info: ObjectInfo, place: str) -> None:
        """`place` is the key below the repository."""
        match = _LINK.fullmatch(place)
        if match is None:
            return
        try:
            if revision := match["revision"]:
                self.revisions[Digest.parse(revision.replace("/", ":"))] = info.modified
            elif layer := match["layer"]:
                self.layers.append(Digest.parse(layer.replace("/", ":")))
            else:
                self.tags.append(Tag(match["tag"]))
        except (DigestInvalid, TagInvalid):
            log.warning("%s is no link of a registry and is passed over", info.key)


def survey(driver: Driver) -> Iterator[Links]:
    """Raises the driver's errors; Undecodable for links in a place that cannot be a repository."""
    found = _flat(driver) if driver.remote else _tree(driver, "")
    seen: set[str] = set()
    for name, infos in found:
        if name in seen:
            raise Unavailable(f"the store lists {name} in two places: it does not list in order")
        seen.add(name)
        links: Links | None = None
        for info, place in infos:
            if links is None:
                links = Links(_name(name))
            links.add(info, place)
        if links is not None:
            yield links


_Found = Iterator[tuple[str, Iterator[tuple[ObjectInfo, str]]]]


def _flat(driver: Driver) -> _Found:
    """In the order of keys what belongs to one repository is together: `_` is before any letter."""
    start = len(layout.REPOSITORIES) + 1

    def split(info: ObjectInfo) -> tuple[str, str]:
        name, _, rest = info.key[start:].partition("/_")
        return name, f"_{rest}"

    for name, infos in groupby(driver.walk(layout.REPOSITORIES), key=lambda info: split(info)[0]):
        yield name, ((info, split(info)[1]) for info in infos)


def _tree(driver: Driver, parent: str) -> _Found:
    """`parent` is empty or ends with a slash."""
    above = f"{layout.REPOSITORIES}/{parent}".rstrip("/")
    is_repository = False
    for child in driver.list(above):
        if child.name.startswith("_"):
            is_repository = True
        elif child.is_prefix:
            yield from _tree(driver, f"{parent}{child.name}/")
    if is_repository and parent:
        yield parent.rstrip("/"), _links(driver, above)


def _links(driver: Driver, repository: str) -> Iterator[tuple[ObjectInfo, str]]:
    """Nothing is asked of layers and tags: a name without its link does no harm here.

    A revision is one only if its link is there, since Distribution leaves the directory.
    """
    start = len(repository) + 1
    manifests = f"{repository}/{layout.MANIFESTS}"
    for algorithm in HEX_LENGTHS:
        for info in driver.leaves(f"{manifests}/revisions/{algorithm}", "link"):
            yield info, info.key[start:]
        layers = f"_layers/{algorithm}"
        for child in driver.list(f"{repository}/{layers}"):
            key = f"{repository}/{layers}/{child.name}/link"
            yield ObjectInfo(key, 0, 0.0), f"{layers}/{child.name}/link"
    for child in driver.list(f"{manifests}/tags"):
        place = f"_manifests/tags/{child.name}/current/link"
        yield ObjectInfo(f"{repository}/{place}", 0, 0.0), place


def _name(name: str) -> RepositoryName:
    try:
        return RepositoryName(name)
    except NameInvalid:
        raise Undecodable(
            f"There are links of a registry in repositories/{name}, which is no name of a repository. "
            "Nothing was removed; move it out of the tree, or rename it, and run again."
        ) from None
