"""Blobs: the link is the access check, and damaged content counts as absent."""

from __future__ import annotations

import logging

import pytest

from storage import layout, links
from storage.blobs import Blob, BlobMemory, Blobs
from storage.driver import Driver, ObjectInfo, Reader
from storage.driver_errors import DriverError, WouldBlock
from storage.drivers.memory import MemoryDriver, MemoryReader
from storage.model.digest import Digest
from storage.model.errors import BlobUnknown, NameUnknown, Unavailable
from storage.model.reference import RepositoryName
from storage.repository import Repository, Store

CONTENT = b"the content of a layer"
DIGEST = Digest.of(CONTENT)
SHA512 = Digest.of(CONTENT, "sha512")


def store_blob(driver: Driver, blobs: Blobs | None, content: bytes = CONTENT) -> Digest:
    digest = Digest.of(content)
    driver.write(layout.blob(digest), content)
    if blobs is not None:
        blobs.link(digest)
    return digest


def content_of(blobs: Blobs, digest: Digest) -> bytes:
    blob, reader = blobs.open(digest)
    try:
        return reader.read_at(0, blob.size + 1)
    finally:
        reader.close()


@pytest.fixture
def blobs(repository: Repository) -> Blobs:
    return repository.blobs


@pytest.fixture
def other(store: Store) -> Blobs:
    return store.repository(RepositoryName("other")).blobs


def test_what_is_linked_and_stored_is_there(driver: Driver, blobs: Blobs) -> None:
    store_blob(driver, blobs)
    assert blobs.stat(DIGEST) == Blob(DIGEST, DIGEST, len(CONTENT))
    assert content_of(blobs, DIGEST) == CONTENT
    assert blobs.has(DIGEST)


def test_content_of_another_repository_is_not_there(
    driver: Driver, blobs: Blobs, other: Blobs
) -> None:
    store_blob(driver, other)
    assert not blobs.has(DIGEST)
    for ask in (blobs.stat, blobs.open, blobs.delete):
        with pytest.raises(BlobUnknown):
            ask(DIGEST)


def test_a_link_to_nothing_is_nothing(blobs: Blobs) -> None:
    blobs.link(DIGEST)
    with pytest.raises(BlobUnknown):
        blobs.stat(DIGEST)
    with pytest.raises(BlobUnknown):
        blobs.open(DIGEST)


@pytest.mark.parametrize("damaged", [b"", b"sha256:00", b"\0" * 71])
def test_a_damaged_link_is_nothing_until_it_is_written_again(
    driver: Driver, blobs: Blobs, damaged: bytes
) -> None:
    store_blob(driver, blobs)
    driver.write(layout.layer(blobs._name, DIGEST), damaged)
    assert not blobs.has(DIGEST)
    blobs.link(DIGEST)
    assert blobs.has(DIGEST)


def test_the_alias_that_distribution_makes_of_a_sha512_push(driver: Driver, blobs: Blobs) -> None:
    store_blob(driver, blobs)
    links.write(driver, layout.layer(blobs._name, SHA512), DIGEST)
    assert blobs.stat(SHA512) == Blob(SHA512, DIGEST, len(CONTENT))
    assert content_of(blobs, SHA512) == CONTENT


def test_mount(driver: Driver, blobs: Blobs, other: Blobs) -> None:
    with pytest.raises(BlobUnknown):
        blobs.mount(DIGEST, other)
    assert not blobs.has(DIGEST)
    store_blob(driver, other)
    assert blobs.mount(DIGEST, other) == Blob(DIGEST, DIGEST, len(CONTENT))
    assert blobs.mount(DIGEST, other).size == len(CONTENT)
    assert content_of(blobs, DIGEST) == CONTENT


def test_mount_of_an_alias_makes_both_links(driver: Driver, blobs: Blobs, other: Blobs) -> None:
    store_blob(driver, None)
    links.write(driver, layout.layer(other._name, SHA512), DIGEST)
    blobs.mount(SHA512, other)
    assert content_of(blobs, SHA512) == content_of(blobs, DIGEST) == CONTENT


def test_mount_from_wherever_it_is(driver: Driver, repository: Repository) -> None:
    with pytest.raises(BlobUnknown):
        repository.blobs.adopt(DIGEST)
    assert not repository.blobs.has(DIGEST)
    store_blob(driver, None)
    assert repository.blobs.adopt(DIGEST).size == len(CONTENT)
    assert repository.blobs.has(DIGEST)


def test_deletion_is_of_one_repository(driver: Driver, blobs: Blobs, other: Blobs) -> None:
    store_blob(driver, blobs)
    other.mount(DIGEST, blobs)
    blobs.delete(DIGEST)
    assert not blobs.has(DIGEST)
    assert content_of(other, DIGEST) == CONTENT
    with pytest.raises(BlobUnknown):
        blobs.delete(DIGEST)


def test_a_blob_of_another_size_than_manifests_say_counts_as_absent(
    driver: Driver, blobs: Blobs, caplog: pytest.LogCaptureFixture
) -> None:
    store_blob(driver, blobs)
    blobs.expect([(DIGEST, len(CONTENT))])
    driver.write(layout.blob(DIGEST), CONTENT[:-1])
    with caplog.at_level(logging.ERROR):
        assert not blobs.has(DIGEST)
        with pytest.raises(BlobUnknown):
            blobs.open(DIGEST)
    assert str(DIGEST) in caplog.text
    driver.write(layout.blob(DIGEST), CONTENT)
    assert content_of(blobs, DIGEST) == CONTENT


def test_what_one_repository_expects_is_nothing_to_another(
    driver: Driver, blobs: Blobs, other: Blobs
) -> None:
    store_blob(driver, blobs)
    store_blob(driver, other)
    other.expect([(DIGEST, len(CONTENT))])
    driver.write(layout.blob(DIGEST), CONTENT[:-1])
    assert blobs.has(DIGEST)
    assert not other.has(DIGEST)


def test_a_manifest_that_gives_a_wrong_size_hides_nothing(driver: Driver, blobs: Blobs) -> None:
    store_blob(driver, blobs)
    blobs.expect([(DIGEST, 5)])
    assert blobs.has(DIGEST)
    assert content_of(blobs, DIGEST) == CONTENT


def test_an_immediate_view_does_not_stop_to_look_for_damage(driver: Driver) -> None:
    memory = BlobMemory()
    name = RepositoryName("a")
    patient, hasty = (Blobs(driver, name, memory, patient=patient) for patient in (True, False))
    store_blob(driver, patient)
    patient.expect([(DIGEST, 5)])
    with pytest.raises(WouldBlock):
        hasty.stat(DIGEST)
    with pytest.raises(WouldBlock):
        hasty.open(DIGEST)


def test_whole_content_is_not_dropped(driver: Driver, blobs: Blobs) -> None:
    content = bytes(range(256)) * 5000
    digest = store_blob(driver, blobs, content)
    assert not blobs.drop_if_damaged(digest)
    assert content_of(blobs, digest) == content
    empty = store_blob(driver, blobs, b"")
    assert not blobs.drop_if_damaged(empty)


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT + b"x", b"", CONTENT.swapcase()])
def test_damaged_content_is_dropped_here_only(
    driver: Driver, blobs: Blobs, other: Blobs, damaged: bytes
) -> None:
    store_blob(driver, blobs)
    other.link(DIGEST)
    driver.write(layout.blob(DIGEST), damaged)
    assert blobs.drop_if_damaged(DIGEST)
    assert not blobs.has(DIGEST)
    assert other.has(DIGEST)


class Tracking(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Reader] = []

    def open(self, key: str) -> MemoryReader:
        reader = super().open(key)
        self.readers.append(reader)
        return reader


def test_no_reader_is_left_open_for_damaged_content() -> None:
    driver = Tracking()
    blobs = Store(driver).repository(RepositoryName("a")).blobs
    store_blob(driver, blobs)
    blobs.expect([(DIGEST, len(CONTENT))])
    driver.write(layout.blob(DIGEST), CONTENT[:-1])
    with pytest.raises(BlobUnknown):
        blobs.open(DIGEST)
    assert len(driver.readers) == 2
    for reader in driver.readers:
        with pytest.raises(DriverError):
            reader.read_at(0, 1)


class Failing(MemoryDriver):
    def stat(self, key: str) -> ObjectInfo:
        raise DriverError("the disk is on fire")


def test_what_cannot_be_looked_at_is_not_taken_for_absent() -> None:
    driver = Failing()
    blobs = Store(driver).repository(RepositoryName("a")).blobs
    store_blob(driver, blobs)
    with pytest.raises(Unavailable):
        blobs.stat(DIGEST)
    with pytest.raises(Unavailable):
        blobs.has(DIGEST)


def test_a_repository_begins_with_its_first_manifest(
    driver: Driver, repository: Repository
) -> None:
    store_blob(driver, repository.blobs)
    with pytest.raises(NameUnknown):
        repository.require()
    with pytest.raises(NameUnknown):
        repository.list_tags()
    links.write(driver, layout.revision(repository.name, DIGEST), DIGEST)
    repository.require()
    assert repository.list_tags() == ([], False)
