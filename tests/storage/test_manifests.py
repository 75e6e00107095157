"""Manifests: byte-exact, verified, written in an order that a crash cannot spoil."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from storage import layout, links
from storage.catalog import Catalog
from storage.driver import Anything, Driver
from storage.driver_errors import DriverError, NoSpace
from storage.drivers.memory import MemoryDriver
from storage.expectation import PRESENT
from storage.model import mediatype
from storage.model.digest import Digest
from storage.model.errors import (
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    PreconditionFailed,
    Unavailable,
)
from storage.model.manifest import SIZE_LIMIT
from storage.model.reference import RepositoryName, Tag
from storage.repository import Repository, Store
from tests.support.registry import Document, image, index

TAG = Tag("latest")


def push_blobs(repository: Repository, document: Document) -> None:
    for blob in document.blobs:
        digest = Digest.parse(blob.digest)
        repository._driver.write(layout.blob(digest), blob.data)
        repository.blobs.link(digest)


def put(
    repository: Repository,
    document: Document,
    reference: Digest | Tag = TAG,
    *tags: Tag,
    **more: Any,
) -> Digest:
    push_blobs(repository, document)
    digest, _ = repository.manifests.put(
        document.content, document.media_type, reference, tags, **more
    )
    return digest


def other_worker(repository: Repository) -> Repository:
    """The same storage with nothing remembered."""
    return Store(repository._driver).repository(repository.name)


def test_what_was_pushed_comes_back_byte_for_byte(repository: Repository) -> None:
    document = image(b"layer", own={"field": [1.50]})
    digest = put(repository, document)
    assert str(digest) == document.digest
    for worker in (repository, other_worker(repository)):
        for reference in (TAG, digest):
            stored = worker.manifests.get(reference)
            assert stored.content == document.content
            assert stored.media_type == mediatype.OCI_MANIFEST
            assert stored.digest == digest


@pytest.mark.parametrize(
    "media_type",
    [mediatype.OCI_MANIFEST, mediatype.DOCKER_MANIFEST, mediatype.OCI_INDEX, mediatype.DOCKER_LIST],
)
def test_every_type_keeps_its_type(repository: Repository, media_type: str) -> None:
    build = image if media_type in mediatype.IMAGES else index
    document = build(media_type=media_type)
    put(repository, document)
    assert other_worker(repository).manifests.get(TAG).media_type == media_type


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_by_digest(repository: Repository, algorithm: str) -> None:
    document = image()
    digest = Digest.of(document.content, algorithm)
    assert put(repository, document, digest) == digest
    assert other_worker(repository).manifests.get(digest).digest == digest
    assert repository.list_tags() == ([], False)
    assert repository._driver.read(layout.blob(digest)) == document.content


def test_by_digest_with_tags(repository: Repository) -> None:
    document = image()
    digest = Digest.of(document.content, "sha512")
    put(repository, document, digest, Tag("a"), Tag("b"))
    for tag in ("a", "b"):
        assert repository.manifests.get(Tag(tag)).digest == digest


class Recording(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.changes: list[str] = []

    def write(self, key: str, data: bytes) -> None:
        self.changes.append(key)
        super().write(key, data)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        self.changes.append(key)
        super().swap(key, data, expected=expected)


def test_the_order_of_writes() -> None:
    driver = Recording()
    repository = Store(driver).repository(RepositoryName("a"))
    subject = image()
    document = image(subject=subject.descriptor())
    push_blobs(repository, document)
    driver.changes.clear()
    digest = put(repository, document)
    written = [key for key in driver.changes if "_layers" not in key and "/blobs/" not in key]
    assert driver.changes.index(layout.blob(digest)) < driver.changes.index(written[0])
    assert written == [
        layout.revision(repository.name, digest),
        layout.referrer(repository.name, Digest.parse(subject.digest), digest),
        layout.tag_index(repository.name, TAG, digest),
        layout.tag_current(repository.name, TAG),
    ]


@pytest.mark.parametrize("step", range(5))
def test_a_failure_at_any_step_leaves_the_old_tag_and_the_same_push_mends_it(step: int) -> None:
    class FailsAt(Recording):
        fails_at: int | None = None

        def write(self, key: str, data: bytes) -> None:
            self._maybe_fail()
            super().write(key, data)

        def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
            self._maybe_fail()
            super().swap(key, data, expected=expected)

        def _maybe_fail(self) -> None:
            if self.fails_at is not None and len(self.changes) >= self.fails_at:
                raise DriverError("EIO")

    driver = FailsAt()
    repository = Store(driver).repository(RepositoryName("a"))
    old = put(repository, image())
    new = image(subject=image().descriptor())
    push_blobs(repository, new)
    driver.changes.clear()
    driver.fails_at = step
    with pytest.raises(Unavailable):
        repository.manifests.put(new.content, new.media_type, TAG)
    assert len(driver.changes) == step
    assert other_worker(repository).manifests.get(TAG).digest == old
    driver.fails_at = None
    repository.manifests.put(new.content, new.media_type, TAG)
    assert str(other_worker(repository).manifests.get(TAG).digest) == new.digest


def test_a_wrong_digest(repository: Repository) -> None:
    document = image()
    push_blobs(repository, document)
    before = {info.key for info in repository._driver.walk("docker")}
    with pytest.raises(DigestInvalid) as caught:
        repository.manifests.put(document.content, document.media_type, Digest.of(b"other"))
    assert document.digest in caught.value.message
    assert {info.key for info in repository._driver.walk("docker")} == before


def test_the_limit_of_size(repository: Repository) -> None:
    document = image()
    push_blobs(repository, document)
    padded = document.content + b" " * (SIZE_LIMIT - len(document.content))
    repository.manifests.put(padded, document.media_type, TAG)
    assert other_worker(repository).manifests.get(TAG).content == padded
    with pytest.raises(ManifestTooLarge):
        repository.manifests.put(padded + b" ", document.media_type, TAG)


def test_all_that_is_missing_is_named_and_nothing_is_stored(repository: Repository) -> None:
    document = image(b"one", b"two")
    with pytest.raises(ManifestBlobUnknown) as caught:
        repository.manifests.put(document.content, document.media_type, TAG)
    assert caught.value.missing == tuple(blob.digest for blob in document.blobs)
    assert list(repository._driver.walk("docker")) == []


def test_a_tag_to_nothing(repository: Repository) -> None:
    with pytest.raises(ManifestUnknown, match="no tag 'latest'"):
        repository.manifests.get(TAG)
    with pytest.raises(ManifestUnknown):
        repository.manifests.get(Digest.of(b""))
    put(repository, image())
    with pytest.raises(ManifestUnknown, match="no tag 'other'"):
        repository.manifests.get(Tag("other"))


def test_a_manifest_of_another_repository_is_not_there(store: Store) -> None:
    """Not even when this worker remembers its bytes."""
    digest = put(store.repository(RepositoryName("one")), image())
    with pytest.raises(ManifestUnknown):
        store.repository(RepositoryName("two")).manifests.get(digest)


def test_a_blob_is_no_manifest_and_a_manifest_no_blob(repository: Repository) -> None:
    document = image(b"layer")
    digest = put(repository, document)
    assert not repository.blobs.has(digest)
    with pytest.raises(ManifestUnknown):
        repository.manifests.get(Digest.parse(document.blobs[0].digest))


def test_deletion_takes_its_tags_with_it(repository: Repository) -> None:
    first, second = image(), image()
    digest = put(repository, first)
    put(repository, first, Tag("same"))
    put(repository, second, Tag("other"))
    repository.manifests.delete(digest)
    for worker in (repository, other_worker(repository)):
        for reference in (digest, TAG, Tag("same")):
            with pytest.raises(ManifestUnknown):
                worker.manifests.get(reference)
        assert [str(tag) for tag in worker.list_tags()[0]] == ["other"]
    with pytest.raises(ManifestUnknown):
        repository.manifests.delete(digest)
    repository.manifests.put(first.content, first.media_type, digest)
    assert repository.manifests.get(digest).content == first.content
    assert [str(tag) for tag in repository.list_tags()[0]] == ["other"], "they do not come back"


def test_deletion_of_a_tag_leaves_the_manifest(repository: Repository) -> None:
    digest = put(repository, image())
    repository.tags.delete(TAG)
    assert repository.manifests.get(digest).digest == digest


DAMAGE = [b"", b"{}", b"x" * 500]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_bytes_are_never_served_and_a_push_mends_them(
    driver: Driver, repository: Repository, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    document = image()
    digest = put(repository, document)
    driver.write(layout.blob(digest), damage)
    fresh = other_worker(repository)
    for reference in (digest, TAG):
        with caplog.at_level(logging.ERROR), pytest.raises(Unavailable, match="Push it again"):
            fresh.manifests.get(reference)
    assert str(digest) in caplog.text
    fresh.manifests.put(document.content, document.media_type, TAG)
    assert driver.read(layout.blob(digest)) == document.content
    assert other_worker(repository).manifests.get(digest).content == document.content


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_can_be_deleted(
    driver: Driver, repository: Repository, damage: bytes
) -> None:
    put(repository, image(), Tag("other"))
    digest = put(repository, image())
    driver.write(layout.blob(digest), damage)
    other_worker(repository).manifests.delete(digest)
    assert repository.list_tags() == ([Tag("other")], False)


def test_a_manifest_that_is_linked_but_not_stored(
    driver: Driver, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    digest = put(repository, image())
    driver.delete(layout.blob(digest))
    with caplog.at_level(logging.ERROR), pytest.raises(ManifestUnknown):
        other_worker(repository).manifests.get(TAG)
    assert "not stored" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"sha256:0"])
@pytest.mark.parametrize("which", ["revision", "tag"])
def test_a_torn_link_is_absent_and_a_push_mends_it(
    driver: Driver, repository: Repository, damage: bytes, which: str
) -> None:
    document = image()
    digest = put(repository, document)
    key = (
        layout.revision(repository.name, digest)
        if which == "revision"
        else layout.tag_current(repository.name, TAG)
    )
    driver.write(key, damage)
    for worker in (repository, other_worker(repository)):
        with pytest.raises(ManifestUnknown):
            worker.manifests.get(TAG)
        assert worker.list_tags() == ([], False)
    put(repository, document)
    assert other_worker(repository).manifests.get(TAG).content == document.content


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b'{"schemaVersion": 1, "signatures": []}', mediatype.SCHEMA1_SIGNED),
        (b'{"schemaVersion": 2, "layers": [], "layers": []}', mediatype.OCI_MANIFEST),
        (b"not json", mediatype.BLOB),
    ],
)
def test_what_an_older_registry_took_is_served(
    driver: Driver, repository: Repository, content: bytes, media_type: str
) -> None:
    digest = Digest.of(content)
    driver.write(layout.blob(digest), content)
    links.write(driver, layout.revision(repository.name, digest), digest)
    stored = repository.manifests.get(digest)
    assert (stored.content, stored.media_type) == (content, media_type)
    repository.manifests.delete(digest)


def test_a_manifest_with_a_newline_after_its_link(driver: Driver, repository: Repository) -> None:
    digest = put(repository, image())
    driver.write(layout.revision(repository.name, digest), f"{digest}\n".encode())
    assert other_worker(repository).manifests.get(digest).digest == digest


def test_reading_a_manifest_tells_the_sizes_of_its_blobs(
    driver: Driver, repository: Repository
) -> None:
    document = image(b"a layer that will be cut")
    put(repository, document)
    layer = Digest.parse(document.blobs[1].digest)
    driver.write(layout.blob(layer), b"a layer")
    fresh = other_worker(repository)
    assert fresh.blobs.has(layer)
    fresh.manifests.get(TAG)
    assert not fresh.blobs.has(layer)
    driver.write(layout.blob(layer), b"a layer that will be cut")
    assert fresh.blobs.has(layer)


@pytest.mark.parametrize("tags", [(), (Tag("a"), Tag("b"))])
def test_expectations_are_of_the_tags_or_else_of_the_manifest(
    repository: Repository, tags: tuple[Tag, ...]
) -> None:
    document = image()
    digest = Digest.parse(document.digest)
    put(repository, document, digest, *tags, expected=None)
    with pytest.raises(PreconditionFailed):
        put(repository, document, digest, *tags, expected=None)
    with pytest.raises(PreconditionFailed):
        put(repository, document, digest, *tags, expected=Digest.of(b"other"))
    put(repository, document, digest, *tags, expected=digest)
    put(repository, document, digest, *tags, expected=PRESENT)


@pytest.mark.parametrize("tags", [(), (Tag("a"), Tag("b"))])
def test_to_be_there_is_required_of_each_tag_or_else_of_the_manifest(
    repository: Repository, tags: tuple[Tag, ...]
) -> None:
    document = image()
    push_blobs(repository, document)
    digest = Digest.parse(document.digest)
    before = {info.key for info in repository._driver.walk("docker")}
    with pytest.raises(PreconditionFailed, match="absent"):
        put(repository, document, digest, *tags, expected=PRESENT)
    assert {info.key for info in repository._driver.walk("docker")} == before
    for tag in tags[:1]:
        put(repository, image(), tag)
        with pytest.raises(PreconditionFailed, match="'b' is absent"):
            put(repository, document, digest, *tags, expected=PRESENT)


def test_a_repository_that_is_empty_again_is_still_one(
    driver: Driver, repository: Repository
) -> None:
    digest = put(repository, image())
    repository.manifests.delete(digest)
    assert repository.list_tags() == ([], False)
    assert [str(name) for name in Catalog(driver).list(limit=10)[0]] == ["team/app"]
    again = put(repository, image())
    repository.tags.delete(TAG)
    repository.manifests.delete(again)
    assert repository.list_tags() == ([], False)


def test_what_keeps_an_empty_repository_must_not_stop_a_deletion() -> None:
    class Full(MemoryDriver):
        full = False

        def write(self, key: str, data: bytes) -> None:
            if self.full:
                raise NoSpace("no space left")
            super().write(key, data)

    driver = Full()
    repository = Store(driver).repository(RepositoryName("a"))
    digest = put(repository, image())
    driver.full = True
    repository.manifests.delete(digest)
    with pytest.raises(ManifestUnknown):
        repository.manifests.get(digest)


def test_an_expectation_that_fails_changes_no_tag_and_stores_nothing(
    repository: Repository,
) -> None:
    old = put(repository, image(), Tag("b"))
    new = image()
    push_blobs(repository, new)
    before = {info.key for info in repository._driver.walk("docker")}
    with pytest.raises(PreconditionFailed):
        repository.manifests.put(
            new.content, new.media_type, Digest.parse(new.digest), [Tag("a"), Tag("b")], None
        )
    assert {info.key for info in repository._driver.walk("docker")} == before
    assert repository.manifests.get(Tag("b")).digest == old


def test_the_content_type_must_be_that_of_the_document(repository: Repository) -> None:
    document = image()
    push_blobs(repository, document)
    for content_type in ("", "text/plain", mediatype.DOCKER_MANIFEST, mediatype.OCI_INDEX):
        with pytest.raises(ManifestInvalid):
            repository.manifests.put(document.content, content_type, TAG)
    assert json.loads(document.content)["mediaType"] == mediatype.OCI_MANIFEST
