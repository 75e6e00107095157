"""What was removed, so that it can be put back while its content is still there.

A record is written before the link that it describes is removed, so after a crash it may describe one
that is still there; putting that back changes nothing. One object per removal, never changed: any number
of nodes write at once.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from storage import layout
from storage.driver import Driver
from storage.driver_errors import NoSpace, ObjectNotFound
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid, NameInvalid, TagInvalid
from storage.model.reference import RepositoryName, Tag

log = logging.getLogger("holdfast.collection")

BY_REQUEST = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """A tag that named `digest`, or, without one, that manifest."""

    repository: RepositoryName
    digest: Digest
    tag: Tag | None = None
    run: str = BY_REQUEST
    """The collector's run that removed it; empty if somebody asked for it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    removal: Removal
    time: float
    """By the store's clock."""


def record(driver: Driver, removals: Iterable[Removal]) -> None:
    """Raises the driver's errors, but for a full store: deleting is how room is made."""
    lines = [_encode(removal) for removal in removals]
    if not lines:
        return
    day = time.strftime("%Y%m%d", time.gmtime())
    try:
        driver.write(f"{layout.JOURNAL}/{day}/{uuid.uuid4().hex}", "\n".join(lines).encode())
    except NoSpace:
        log.warning("the storage is full, so what is removed now cannot be restored")


def recorded(driver: Driver) -> Iterator[Recorded]:
    """All there is, in no order. What cannot be read is passed over with a warning."""
    for info in driver.walk(layout.JOURNAL):
        try:
            content = driver.read(info.key)
        except ObjectNotFound:
            continue
        for line in content.decode("utf-8", "replace").splitlines():
            try:
                yield Recorded(_decode(line), info.modified)
            except (
                ValueError,
                KeyError,
                TypeError,
                NameInvalid,
                DigestInvalid,
                TagInvalid,
            ) as error:
                log.warning("a record in %s cannot be read: %s", info.key, error)


def forget(driver: Driver, before: float) -> int:
    """Remove the records from before that time, by the store's clock; how many objects."""
    old = [info.key for info in driver.walk(layout.JOURNAL) if info.modified < before]
    driver.delete_many(old)
    return len(old)


def _encode(removal: Removal) -> str:
    value = {"repository": str(removal.repository), "digest": str(removal.digest)}
    if removal.tag is not None:
        value["tag"] = str(removal.tag)
    if removal.run:
        value["run"] = removal.run
    return json.dumps(value, separators=(",", ":"))


def _decode(line: str) -> Removal:
    value = json.loads(line)
    tag = value.get("tag")
    return Removal(
        RepositoryName(value["repository"]),
        Digest.parse(value["digest"]),
        None if tag is None else Tag(tag),
        str(value.get("run", BY_REQUEST)),
    )
