"""The store, and one repository of it with everything that is bound to its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache

from storage import layout
from storage.blobs import Blob, BlobMemory, Blobs, unknown
from storage.cache import Cache
from storage.catalog import Catalog, exists
from storage.driver import Driver, ObjectNotFound
from storage.manifests import Manifests, StoredManifest
from storage.model.digest import Digest
from storage.model.errors import NameUnknown
from storage.model.reference import RepositoryName, Tag
from storage.requirements import Requirements
from storage.tags import Tags
from storage.translation import translated
from storage.uploads import Uploads

MANIFEST_CACHE_BYTES = 32 * 1024 * 1024
REPOSITORIES_REMEMBERED = 1000


class Store:
    """Content-addressed storage behind one driver. Thread-safe; blocks its callers."""

    def __init__(
        self,
        driver: Driver,
        requirements: Requirements | None = None,
        observe_cache: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.driver = driver
        self.requirements = requirements or Requirements()
        self.catalog = Catalog(driver)
        self.manifest_cache: Cache[Digest, StoredManifest] = Cache(
            MANIFEST_CACHE_BYTES, lambda stored: len(stored.content) + 500, observe_cache
        )
        self.blob_memory = BlobMemory()
        immediate = driver.immediate()
        self._repositories = self._over(driver)
        self._immediate = None if immediate is None else self._over(immediate)

    def repository(self, name: RepositoryName) -> Repository:
        """Costs nothing and asks nothing: a repository begins with its first push."""
        return self._repositories(name)

    def immediately(self, name: RepositoryName) -> Repository | None:
        """The repository as far as it is in memory, or None where storage has no such view.

        Its look-ups raise WouldBlock rather than wait, so an event loop may ask.
        """
        return None if self._immediate is None else self._immediate(name)

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
        patient = self._driver is self._store.driver
        return Blobs(self._driver, self.name, self._store.blob_memory, patient=patient)

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(self._driver, self.name, self.blobs)

    @cached_property
    def tags(self) -> Tags:
        return Tags(self._driver, self.name)

    @cached_property
    def manifests(self) -> Manifests:
        return Manifests(
            self._driver,
            self.name,
            self.blobs,
            self.tags,
            self._store.manifest_cache,
            self._store.requirements,
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

    @translated
    def mount_stored(self, digest: Digest) -> Blob:
        """Make content of whatever repository readable here, for a caller who may read them all.

        Raises BlobUnknown if it is nowhere.
        """
        try:
            size = self._driver.stat(layout.blob(digest)).size
        except ObjectNotFound:
            raise unknown(digest) from None
        self.blobs.link(digest)
        return Blob(digest, digest, size)
