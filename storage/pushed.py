"""When tags were pushed to the storage that they were copied from.

An object store has no times but its own, so there a copied tag would be as old as its copy, and the newest
ten of a repository any ten. One object per repository says how old they are; it counts for a tag that names
what it named then, and was not written since: it is read together with its own time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from storage import layout
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

log = logging.getLogger("holdfast.storage")

RESOLUTION = 1.0
"""Seconds: a store tells times in lists more exactly than in the head of an answer."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """Of one repository. `noted` is when that was written, by the store's clock."""

    noted: float = 0.0
    times: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """By tag: what it named, and since when."""

    def time_of(self, tag: Tag, digest: Digest, modified: float) -> float:
        """`modified` is the time of the tag's link."""
        known = self.times.get(str(tag))
        if known is None or known[0] != str(digest) or modified > self.noted + RESOLUTION:
            return modified
        return min(known[1], modified)


def load(driver: Driver, name: RepositoryName) -> Pushed:
    """Nothing where storage has times of its own. Raises the driver's errors."""
    if not driver.remote:
        return Pushed()
    try:
        with closing(driver.open(layout.pushed(name))) as reader:
            value = json.loads(reader.read_at(0, reader.info.size))
            times = {tag: (str(named), float(time)) for tag, (named, time) in value.items()}
            return Pushed(reader.info.modified, times)
    except ObjectNotFound:
        return Pushed()
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read, and is passed over: %s", layout.pushed(name), error)
        return Pushed()


def note(driver: Driver, name: RepositoryName, times: Mapping[str, tuple[str, float]]) -> None:
    """After the links were written."""
    driver.write(layout.pushed(name), json.dumps(times, separators=(",", ":")).encode())
