"""The store, and one repository of it with everything that is bound to its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache

from storage.blobs import BlobMemory, Blobs
from storage.cache import Cache
from storage.catalog import Catalog
from storage.catalog_index import CatalogIndex
from storage.collection.guard import Guard
from storage.driver import Driver
from storage.manifests import Manifests, StoredManifest
from storage.model.digest import Digest
from storage.model.errors import NameUnknown
from storage.model.reference import RepositoryName, Tag
from storage.presence import exists
from storage.remembered import Memory, RememberingDriver, Staleness
from storage.requirements import Requirements
from storage.tag_lists import TagLists
from storage.tags import Tags
from storage.translation import translated
from storage.uploads import Uploads, ended_uploads

MANIFEST_CACHE_BYTES = 32 * 1024 * 1024
REPOSITORIES_REMEMBERED = 1000


class Store:
    """Content-addressed storage behind one driver. Thread-safe; blocks its callers."""

    def __init__(
        self,
        driver: Driver,
        requirements: Requirements | None = None,
        observe_cache: Callable[[bool], None] = lambda _: None,
        staleness: Staleness | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.guard = guard or Guard(driver)
        memory = (
            RememberingDriver(driver, Memory(staleness or Staleness())) if driver.remote else None
        )
        self.driver = driver = memory or driver
        self.requirements = requirements or Requirements()
        self.catalog_index = CatalogIndex(driver) if driver.remote else None
        self.catalog = Catalog(driver, self.catalog_index)
        self.manifest_cache: Cache[Digest, StoredManifest] = Cache(
            MANIFEST_CACHE_BYTES, lambda stored: len(stored.content) + 500, observe_cache
        )
        self.blob_memory = BlobMemory()
        self.tag_lists = TagLists()
        self.ended_uploads = ended_uploads()
        self.immediate_driver = immediate = driver.immediate()
        self._repositories = self._over(driver)
        self._lookups = self._repositories if memory is None else self._over(memory.lookups())
        self._immediate = None if immediate is None else self._over(immediate)

    def repository(self, name: RepositoryName) -> Repository:
        """Costs nothing and asks nothing: a repository begins with its first push."""
        return self._repositories(name)

    def lookups(self, name: RepositoryName) -> Repository:
        """The repository for pulls, where what was there a moment ago counts as there (see `Staleness`)."""
        return self._lookups(name)

    def immediately(self, name: RepositoryName) -> Repository | None:
        """The repository as far as it is in memory, or None where storage has no such view.

        Its look-ups raise WouldBlock rather than wait, so an event loop may ask.
        """
        return None if self._immediate is None else self._immediate(name)

    def enter(self, name: RepositoryName) -> None:
        """Make a repository that is about to have its first manifest appear in the catalog."""
        if self.catalog_index is not None:
            self.catalog_index.enter(name)

    def _over(self, driver: Driver) -> Callable[[RepositoryName], Repository]:
        """Repositories hold no state, and most requests are for the same few."""
        return lru_cache(REPOSITORIES_REMEMBERED)(lambda name: Repository(self, name, driver))


class Repository:
    def __init__(self, store: Store, name: RepositoryName, driver: Driver) -> None:
        self._store = store
        self._driver = driver
        self.name = name

    @cached_property
    def blobs(self) -> Blobs:
        patient = self._driver is not self._store.immediate_driver
        return Blobs(
            self._driver, self.name, self._store.blob_memory, self._store.guard, patient=patient
        )

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(
            self._driver, self.name, self.blobs, self._store.ended_uploads, self._store.guard
        )

    @cached_property
    def tags(self) -> Tags:
        return Tags(self._driver, self.name, self._store.tag_lists)

    @cached_property
    def manifests(self) -> Manifests:
        return Manifests(
            self._driver,
            self.name,
            self.blobs,
            self.tags,
            self._store.manifest_cache,
            self._store.requirements,
            self._store.enter,
            self._store.guard,
        )

    @translated
    def require(self) -> None:
        """Raises NameUnknown if there is no such repository."""
        if not exists(self._driver, self.name):
            raise NameUnknown(
                f"There is no repository {str(self.name)!r}: nothing was ever pushed to it.",
                {"name": str(self.name)},
            )

    def list_tags(self, *, after: str = "", limit: int | None = None) -> tuple[list[Tag], bool]:
        """As Tags.list; raises NameUnknown if there is no such repository."""
        self.require()
        return self.tags.list(after=after, limit=limit)
