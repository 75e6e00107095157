"""Mending what can be mended from what is there. Each step is safe next to live pushes.

A link is written only where the content that it names is there, as a push would, under the guard that
pushes have. What is taken away is either a name that leads to nothing, which every answer counts as
absent already, or content that is not what it is called, which nobody can be served. On a filesystem that
goes to the trash, where it can still be looked at.
"""

from __future__ import annotations

import secrets
import time

from registry_gc.store_clock import store_time
from storage import layout, links
from storage.collection import entries
from storage.collection.guard import Guard
from storage.driver import Driver
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

LIFETIME = 3600.0


class Repairs:
    """Every method raises the driver's errors, or a RegistryError, and has then changed nothing."""

    def __init__(self, driver: Driver, guard: Guard) -> None:
        self._driver = driver
        self._guard = guard
        self._batch = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-fsck{secrets.token_hex(2)}"
        self._begun = False

    def link(self, key: str, digest: Digest) -> None:
        """Make the key a link to content that is there."""
        reliance = self._guard.rely([entries.blob(digest)])
        self._driver.stat(layout.blob(digest))
        self._driver.write(key, links.encode(digest))
        reliance.confirm()

    def link_manifest(self, name: RepositoryName, digest: Digest) -> None:
        reliance = self._guard.rely([entries.blob(digest), entries.manifest(name, digest)])
        self._driver.stat(layout.blob(digest))
        self._driver.write(layout.revision(name, digest), links.encode(digest))
        reliance.confirm()

    def unlink(self, key: str) -> None:
        """Of a link that leads to nothing."""
        self._driver.delete_many([key])
        self._driver.prune(key.rpartition("/")[0])

    def forget_tag(self, name: RepositoryName, tag: Tag, held: bytes | None) -> None:
        """Of a tag that names nothing, unless it was pushed meanwhile. Raises Conflict then.

        One that holds nothing has only its history: that of a push that is under way is no loss.
        """
        if held is not None:
            self._driver.swap(layout.tag_current(name, tag), None, expected=held)
        directory = layout.tag_directory(name, tag)
        self._driver.delete_tree(f"{directory}/index")
        self._driver.prune(directory)

    def set_aside(self, digest: Digest) -> None:
        """Of content that is not what its name says, so that the next push of it is stored."""
        if not self._begun:
            self._driver.begin_discards(self._batch)
            self._begun = True
        discarder = self._driver.discarder(
            self._batch, since=store_time(self._driver), lifetime=LIFETIME
        )
        discarder.discard(layout.blob(digest))
