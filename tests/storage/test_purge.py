"""Uploads that nobody goes on with are removed, and no others."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage import layout, links
from storage.driver import Child, Driver, ObjectInfo
from storage.driver_errors import DriverError
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest
from storage.model.errors import Unavailable, UploadUnknown
from storage.model.reference import RepositoryName
from storage.purge import Purged, purge
from storage.repository import Store

HOUR = 3600.0
NAMES = ["a", "a/b", "a/b/c", "uploads"]


def later(seconds: float) -> Callable[[], float]:
    now = time.time()
    return lambda: now + seconds


def start(store: Store, name: str, content: bytes = b"") -> str:
    uploads = store.repository(RepositoryName(name)).uploads
    progress = uploads.start()
    if content:
        with uploads.resume(progress) as session:
            session.append([content])
            session.checkpoint()
    return progress.upload_id


def there(store: Store, name: str, upload_id: str) -> bool:
    try:
        store.repository(RepositoryName(name)).uploads.status(upload_id)
    except UploadUnknown:
        return False
    return True


@pytest.mark.parametrize("content", [b"", b"bytes"])
def test_the_old_go_and_the_young_stay(driver: Driver, store: Store, content: bytes) -> None:
    found = {name: start(store, name, content) for name in NAMES}
    assert purge(driver, age=HOUR) == Purged(0, len(NAMES), 0)
    assert all(there(store, name, upload_id) for name, upload_id in found.items())
    assert purge(driver, age=HOUR, now=later(2 * HOUR)) == Purged(len(NAMES), 0, 0)
    assert not any(there(store, name, upload_id) for name, upload_id in found.items())
    assert purge(driver, age=HOUR, now=later(2 * HOUR)) == Purged(0, 0, 0)


def test_a_dry_run_only_tells(driver: Driver, store: Store) -> None:
    upload_id = start(store, "a")
    assert purge(driver, age=HOUR, dry_run=True, now=later(2 * HOUR)) == Purged(1, 0, 0)
    assert there(store, "a", upload_id)


def test_everything_else_stays(driver: Driver, store: Store) -> None:
    digest = Digest.of(b"")
    for name in ("a", "a/b"):
        links.write(driver, layout.revision(RepositoryName(name), digest), digest)
        links.write(driver, layout.layer(RepositoryName(name), digest), digest)
    driver.write(layout.blob(digest), b"")
    before = {info.key for info in driver.walk("docker")}
    start(store, "a")
    assert purge(driver, age=0, now=later(1)).removed == 1
    assert {info.key for info in driver.walk("docker")} == before


class Aging(MemoryDriver):
    """Everything but what grows is an hour old."""

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        for info in super().walk(prefix, after=after):
            yield replace(info, modified=info.modified - HOUR)


def test_an_upload_is_as_old_as_its_newest_byte() -> None:
    """A long chunk that is still coming in has no other sign of life than its data."""
    driver = Aging()
    store = Store(driver)
    idle = start(store, "a")
    uploads = store.repository(RepositoryName("a")).uploads
    with uploads.resume(uploads.start()) as session:
        session.append([b"a byte that came just now"])
        assert purge(driver, age=HOUR / 2) == Purged(1, 1, 0)
        assert there(store, "a", session.progress.upload_id)
    assert not there(store, "a", idle)


def test_an_empty_directory_goes_at_once_unless_it_comes_to_life(tmp_path: Path) -> None:
    driver = FilesystemDriver(tmp_path)
    driver.prepare()
    directory = tmp_path / layout.upload(RepositoryName("a"), str(uuid.uuid4()))
    directory.mkdir(parents=True)
    assert purge(driver, age=HOUR) == Purged(1, 0, 0)
    assert not directory.exists()


def test_an_upload_that_begins_while_its_empty_directory_is_looked_at_stays(
    tmp_path: Path,
) -> None:
    class Beginning(FilesystemDriver):
        def prune(self, prefix: str) -> None:
            self.write(f"{prefix}/startedat", b"")
            super().prune(prefix)

    driver = Beginning(tmp_path)
    driver.prepare()
    key = layout.upload(RepositoryName("a"), str(uuid.uuid4()))
    (tmp_path / key).mkdir(parents=True)
    purge(driver, age=HOUR)
    assert driver.stat(f"{key}/startedat").size == 0


def test_one_that_cannot_be_removed_is_passed_over() -> None:
    class Stuck(MemoryDriver):
        def delete_tree(self, prefix: str) -> None:
            if stuck in prefix:
                raise DriverError("EBUSY")
            super().delete_tree(prefix)

    driver = Stuck()
    store = Store(driver)
    stuck, other = start(store, "a"), start(store, "b")
    assert purge(driver, age=HOUR, now=later(2 * HOUR)) == Purged(1, 0, 1)
    assert there(store, "a", stuck)
    assert not there(store, "b", other)


def test_a_storage_that_cannot_be_listed_is_no_empty_one() -> None:
    class Failing(MemoryDriver):
        def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
            raise DriverError("EIO")

    with pytest.raises(Unavailable):
        purge(Failing(), age=0)


@pytest.mark.parametrize("directory", ["Not-A-Name", "_own", "lost..found"])
def test_directories_that_are_nobodys_repository_are_left_alone(
    driver: Driver, directory: str
) -> None:
    key = f"{layout.REPOSITORIES}/{directory}/_uploads/x/startedat"
    driver.write(key, b"")
    assert purge(driver, age=0, now=later(1)) == Purged(0, 0, 0)
    assert driver.read(key) == b""
