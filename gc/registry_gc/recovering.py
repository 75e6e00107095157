"""Content that was removed and is in the trash still: where it comes back from, and how it is linked again.

What is put back is garbage until something names it, like the content of a push that never got to its
manifest. So the link is written as a push does it that found the content there: relying on it first.
"""

from __future__ import annotations

from registry_gc.verifying import hashed
from storage import layout, links
from storage.collection import entries
from storage.collection.guard import Guard
from storage.driver import Driver, Reader
from storage.driver_errors import ObjectNotFound
from storage.model.digest import Digest
from storage.model.reference import RepositoryName


def has(driver: Driver, digest: Digest) -> bool:
    """Whether the content is there, if need be after it was put back. Raises the driver's errors."""
    if _is_there(driver, digest):
        return True

    def sound(reader: Reader) -> bool:
        """What `registry fsck` has set aside is in the trash as well."""
        return hashed(reader, digest.algorithm).digest() == digest

    return driver.recover(layout.blob(digest), sound)


def link(driver: Driver, guard: Guard, name: RepositoryName, digest: Digest) -> bool:
    """Let the repository have the blob again; False if its content is gone.

    Raises Doomed or Unavailable, and the driver's errors.
    """
    if not has(driver, digest):
        return False
    reliance = guard.rely([entries.blob(digest)])
    if not _is_there(driver, digest):
        return False
    driver.write(layout.layer(name, digest), links.encode(digest))
    reliance.confirm()
    return True


def _is_there(driver: Driver, digest: Digest) -> bool:
    try:
        driver.stat(layout.blob(digest))
    except ObjectNotFound:
        return False
    return True
