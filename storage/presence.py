"""That a repository goes on to exist when its last manifest is deleted.

On a filesystem an empty directory is what is left of it, and CNCF Distribution goes by that. Where
storage has no directories an object takes its place, so that a client is told the same over every
driver: a repository without tags, not one that was never there.
"""

from __future__ import annotations

import logging

from storage import layout
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.model.reference import RepositoryName

log = logging.getLogger("holdfast.storage")


def exists(driver: Driver, name: RepositoryName) -> bool:
    """Whether `name` is a repository: whether it ever had a manifest."""
    return driver.has_children(layout.manifests(name))


def keep(driver: Driver, name: RepositoryName) -> None:
    """Called after a deletion. It has been done, whatever comes of this: a full store must not undo it."""
    try:
        if not exists(driver, name):
            driver.write(layout.emptied(name), b"")
    except DriverError as error:
        log.warning("%s is empty now, and may be told of as unknown: %s", name, error)
