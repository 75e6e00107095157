"""Which manifests have a subject: the index, what it is rebuilt from, and what it must not believe."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from storage import layout, links
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest
from storage.model.errors import Unavailable
from storage.model.reference import RepositoryName, Tag
from storage.referrers import fallback_tag
from storage.repository import Repository, Store
from tests.support.registry import Document, image, index

SUBJECT = image()
SUBJECT_DIGEST = Digest.parse(SUBJECT.digest)


def put(repository: Repository, document: Document, reference: Tag | None = None) -> Digest:
    for blob in document.blobs:
        digest = Digest.parse(blob.digest)
        repository._driver.write(layout.blob(digest), blob.data)
        repository.blobs.link(digest)
    target = reference or Digest.parse(document.digest)
    digest, _ = repository.manifests.put(document.content, document.media_type, target)
    return digest


def put_unseen(driver: Driver, repository: Repository, document: Document) -> Digest:
    """As Distribution would have pushed it: no index of referrers."""
    digest = Digest.parse(document.digest)
    driver.write(layout.blob(digest), document.content)
    links.write(driver, layout.revision(repository.name, digest), digest)
    return digest


def referrer(**fields: Any) -> Document:
    return image(subject=SUBJECT.descriptor(), **fields)


def listed(repository: Repository) -> list[str]:
    return [str(digest) for digest in repository.manifests.referrers(SUBJECT_DIGEST)]


def fresh(repository: Repository) -> Repository:
    return Store(repository._driver).repository(repository.name)


def test_what_a_list_shows(repository: Repository) -> None:
    first = referrer(artifactType="a/b", annotations={"x": "y"})
    second = referrer()
    third = index(subject=SUBJECT.descriptor())
    fourth = index(subject=SUBJECT.descriptor(), artifactType="c/d")
    for document in (first, second, third, fourth):
        put(repository, document)
    config_type = second.blobs[0].media_type
    found = repository.manifests.referrers(SUBJECT_DIGEST)
    assert list(found) == sorted(found, key=str)
    about = {str(digest): descriptor for digest, descriptor in found.items()}
    assert about == {
        first.digest: {**first.descriptor(), "artifactType": "a/b", "annotations": {"x": "y"}},
        second.digest: {**second.descriptor(), "artifactType": config_type},
        third.digest: third.descriptor(),
        fourth.digest: {**fourth.descriptor(), "artifactType": "c/d"},
    }


def test_nobody_knows_the_subject(driver: Driver, repository: Repository) -> None:
    assert listed(repository) == []
    assert list(driver.walk("docker")) == [], "asking about a repository must not make it"


def test_subjects_are_told_apart(repository: Repository) -> None:
    document = referrer()
    put(repository, document)
    put(repository, image(subject=image().descriptor()))
    put(repository, image())
    assert listed(repository) == [document.digest]
    other = Digest.of(SUBJECT.content, "sha512")
    assert repository.manifests.referrers(other) == {}


def test_repositories_are_told_apart(store: Store) -> None:
    put(store.repository(RepositoryName("secret")), referrer())
    assert listed(store.repository(RepositoryName("mine"))) == []


def test_deleted_ones_are_gone(driver: Driver, repository: Repository) -> None:
    documents = [referrer(), referrer()]
    first, second = (put(repository, document) for document in documents)
    repository.manifests.delete(first)
    assert listed(repository) == [str(second)]
    repository.manifests.delete(second)
    assert listed(repository) == []
    assert list(driver.list(layout.referrers_of(repository.name, SUBJECT_DIGEST))) == []


def test_an_entry_without_its_manifest_does_not_count(
    driver: Driver, repository: Repository
) -> None:
    digest = put(repository, referrer())
    assert listed(repository) == [str(digest)]
    driver.delete(layout.revision(repository.name, digest))
    assert listed(repository) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[1, 1]"])
def test_a_damaged_entry_is_read_from_the_manifest(
    driver: Driver, repository: Repository, damage: bytes
) -> None:
    document = referrer(annotations={"x": "y"})
    digest = put(repository, document)
    driver.write(layout.referrer(repository.name, SUBJECT_DIGEST, digest), damage)
    found = repository.manifests.referrers(SUBJECT_DIGEST)
    assert found[digest]["annotations"] == {"x": "y"}


def test_the_index_is_built_from_what_was_there_before(
    driver: Driver, repository: Repository
) -> None:
    documents = [referrer(), index(subject=SUBJECT.descriptor()), image()]
    for document in documents:
        put_unseen(driver, repository, document)
    expected = sorted(document.digest for document in documents[:2])
    assert listed(repository) == expected
    assert driver.stat(layout.referrers_complete(repository.name)).size == 0
    entries = [info.key for info in driver.walk(layout.referrers(repository.name))]
    assert len(entries) == 3
    assert listed(fresh(repository)) == expected


def test_it_is_built_once(driver: Driver, repository: Repository) -> None:
    put_unseen(driver, repository, referrer())
    assert len(listed(repository)) == 1
    put_unseen(driver, repository, referrer())
    assert len(listed(fresh(repository))) == 1
    driver.delete(layout.referrers_complete(repository.name))
    assert len(listed(fresh(repository))) == 2


def test_what_cannot_be_parsed_does_not_stop_it(driver: Driver, repository: Repository) -> None:
    old = b'{"schemaVersion": 1}'
    digest = Digest.of(old)
    driver.write(layout.blob(digest), old)
    links.write(driver, layout.revision(repository.name, digest), digest)
    gone = Digest.of(b"gone")
    links.write(driver, layout.revision(repository.name, gone), gone)
    seen = put_unseen(driver, repository, referrer())
    assert listed(repository) == [str(seen)]


class ReadOnly(MemoryDriver):
    read_only = False

    def write(self, key: str, data: bytes) -> None:
        if self.read_only:
            raise DriverError("EROFS")
        super().write(key, data)


def test_a_storage_that_cannot_be_written_is_answered_from(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = ReadOnly()
    repository = Store(driver).repository(RepositoryName("a"))
    documents = [referrer(), referrer()]
    for document in documents:
        put_unseen(driver, repository, document)
    driver.read_only = True
    with caplog.at_level(logging.WARNING):
        assert listed(repository) == sorted(document.digest for document in documents)
    assert "not completed" in caplog.text
    driver.read_only = False
    assert len(listed(repository)) == 2
    assert driver.stat(layout.referrers_complete(repository.name)).size == 0


def test_a_manifest_that_cannot_be_read_is_not_taken_for_absent(
    driver: Driver, repository: Repository
) -> None:
    """Or the index would be called complete without it."""
    digest = put_unseen(driver, repository, referrer())
    content = driver.read(layout.blob(digest))
    driver.write(layout.blob(digest), b"damaged")
    with pytest.raises(Unavailable):
        listed(repository)
    driver.write(layout.blob(digest), content)
    assert listed(repository) == [str(digest)]


def test_the_fallback_tag_of_a_client_is_merged_in(driver: Driver, repository: Repository) -> None:
    put(repository, image(), Tag("other"))
    assert listed(repository) == []
    shown, foreign = referrer(), image()
    for document in (shown, foreign):
        put_unseen(driver, repository, document)
    put(repository, index(shown, foreign), fallback_tag(SUBJECT_DIGEST))
    both = put(repository, referrer())
    assert listed(repository) == sorted([shown.digest, str(both)])


@pytest.mark.parametrize("children", [[], [{"digest": "x"}]])
def test_a_fallback_tag_with_nothing_in_it(
    driver: Driver, repository: Repository, children: list[Any]
) -> None:
    content = json.dumps({"schemaVersion": 2, "manifests": children}).encode()
    digest = Digest.of(content)
    driver.write(layout.blob(digest), content)
    links.write(driver, layout.revision(repository.name, digest), digest)
    repository.tags.set(fallback_tag(SUBJECT_DIGEST), digest)
    assert listed(repository) == []


def test_names_of_fallback_tags() -> None:
    sha256, sha512 = Digest.of(b""), Digest.of(b"", "sha512")
    assert str(fallback_tag(sha256)) == f"sha256-{sha256.hex}"
    assert str(fallback_tag(sha512)) == f"sha512-{sha512.hex[:64]}"


def test_a_hand_written_fallback_tag_is_an_ordinary_tag(repository: Repository) -> None:
    digest = put(repository, image(), fallback_tag(SUBJECT_DIGEST))
    assert repository.manifests.get(fallback_tag(SUBJECT_DIGEST)).digest == digest
    assert listed(repository) == []
