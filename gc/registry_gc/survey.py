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
from storage.driver import Driver, ObjectInfo
from storage.driver_errors import Unavailable
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
    tags: dict[Tag, str] = field(default_factory=dict)
    """With the fingerprint of each one's link, where the storage tells it."""

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
                self.tags[Tag(match["tag"])] = info.fingerprint
        except (DigestInvalid, TagInvalid):
            _pass_over(info.key)


def survey(driver: Driver, *, layers: bool = True, after: str = "") -> Iterator[Links]:
    """In the order of keys, those after the repository `after`, if that is given: it need not be there.

    Without `layers` those of a directory tree are not looked at. Raises the driver's errors; Undecodable
    for links in a place that cannot be a repository.
    """
    last = _place(after) if after else ""
    for found in _flat(driver, last) if driver.remote else _tree(driver, "", layers, last):
        place = _place(str(found.name))
        if place <= last:
            raise Unavailable(f"the store lists {found.name} too late: it does not list in order")
        last = place
        yield found


def _place(name: str) -> str:
    """How all keys of a repository begin that are not those of another one within it."""
    return f"{name}/_"


def _flat(driver: Driver, after: str) -> Iterator[Links]:
    """In the order of keys what belongs to one repository is together: `_` is before any letter."""
    start = len(layout.REPOSITORIES) + 1
    begin = f"{layout.REPOSITORIES}/{after}~" if after else ""  # `~` is after any letter

    def split(info: ObjectInfo) -> tuple[str, str]:
        name, _, rest = info.key[start:].partition("/_")
        return name, f"_{rest}"

    every = driver.walk(layout.REPOSITORIES, after=begin)
    found = (info for info in every if info.key.find("/_", start) > 0)  # the rest is litter
    for name, infos in groupby(found, key=lambda info: split(info)[0]):
        links = Links(_name(name))
        for info in infos:
            links.add(info, split(info)[1])
        yield links


def _tree(driver: Driver, parent: str, layers: bool, after: str) -> Iterator[Links]:
    """`parent` is empty or ends with a slash."""
    above = f"{layout.REPOSITORIES}/{parent}".rstrip("/")
    is_repository = False
    for child in driver.list(above):
        if child.name.startswith("_"):
            if parent and not is_repository and f"{parent}_" > after:
                yield from _repository(driver, parent.rstrip("/"), layers)
            is_repository = True
        elif child.is_prefix:
            below = f"{parent}{child.name}/"
            if below > after or after.startswith(below):
                yield from _tree(driver, below, layers, after)


def _repository(driver: Driver, name: str, layers: bool) -> Iterator[Links]:
    """Nothing, if there is no link."""
    place = f"{layout.REPOSITORIES}/{name}"
    revisions: dict[Digest, float] = {}
    layer_links: list[Digest] = []
    for algorithm in HEX_LENGTHS:
        revisions |= _revisions(driver, place, algorithm)
        if layers:
            layer_links += _layers(driver, place, algorithm)
    tags = dict.fromkeys(_tags(driver, place), "")
    if revisions or layer_links or tags:
        yield Links(_name(name), revisions, layer_links, tags)


def _revisions(driver: Driver, repository: str, algorithm: str) -> dict[Digest, float]:
    """Those whose link is there: Distribution leaves the directory."""
    place = f"{repository}/{layout.MANIFESTS}/revisions/{algorithm}"
    found = {}
    for link in driver.leaves(place, "link"):
        try:
            found[Digest(algorithm, link.name)] = link.modified
        except DigestInvalid:
            _pass_over(f"{place}/{link.name}/link")
    return found


def _layers(driver: Driver, repository: str, algorithm: str) -> Iterator[Digest]:
    """Nothing is asked of layers and tags: a name without its link does no harm here."""
    place = f"{repository}/_layers/{algorithm}"
    for child in driver.list(place):
        try:
            yield Digest(algorithm, child.name)
        except DigestInvalid:
            _pass_over(f"{place}/{child.name}")


def _tags(driver: Driver, repository: str) -> Iterator[Tag]:
    place = f"{repository}/{layout.MANIFESTS}/tags"
    for child in driver.list(place):
        try:
            yield Tag(child.name)
        except TagInvalid:
            _pass_over(f"{place}/{child.name}")


def _pass_over(key: str) -> None:
    log.warning("%s is no link of a registry and is passed over", key)


def _name(name: str) -> RepositoryName:
    try:
        return RepositoryName(name)
    except NameInvalid:
        raise Undecodable(
            f"There are links of a registry in repositories/{name}, which is no name of a repository. "
            "Nothing was removed; move it out of the tree, or rename it, and run again."
        ) from None
