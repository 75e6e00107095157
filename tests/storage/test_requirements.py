"""What must be there before a manifest is taken."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from storage import layout
from storage.driver import Driver, ObjectInfo
from storage.drivers.memory import MemoryDriver
from storage.model import mediatype
from storage.model.digest import Digest
from storage.model.errors import ManifestBlobUnknown, ManifestInvalid
from storage.model.reference import RepositoryName, Tag
from storage.repository import Repository, Store
from storage.requirements import Requirements
from tests.support.registry import Blob, Document, image, index

TAG = Tag("latest")
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def at(driver: Driver, requirements: Requirements | None = None) -> Repository:
    return Store(driver, requirements).repository(RepositoryName("a"))


def give(repository: Repository, *blobs: Blob) -> None:
    for blob in blobs:
        digest = Digest.parse(blob.digest)
        repository._driver.write(layout.blob(digest), blob.data)
        repository.blobs.link(digest)


def put(repository: Repository, document: Document, reference: Tag = TAG) -> None:
    repository.manifests.put(document.content, document.media_type, reference)


def missing(repository: Repository, document: Document) -> Sequence[str]:
    with pytest.raises(ManifestBlobUnknown) as caught:
        put(repository, document)
    return caught.value.missing


def test_every_blob_and_each_once(driver: Driver) -> None:
    repository = at(driver)
    document = image(b"same", b"same", b"other")
    assert missing(repository, document) == tuple(
        dict.fromkeys(blob.digest for blob in document.blobs)
    )
    give(repository, document.blobs[0], document.blobs[3])
    assert missing(repository, document) == (document.blobs[1].digest,)
    give(repository, document.blobs[1])
    put(repository, document)


def test_what_another_repository_has_is_missing_here(driver: Driver) -> None:
    document = image()
    give(Store(driver).repository(RepositoryName("secret")), *document.blobs)
    assert missing(at(driver), document) == (document.blobs[0].digest,)


def test_a_link_without_its_bytes_is_missing(driver: Driver) -> None:
    repository = at(driver)
    document = image()
    repository.blobs.link(Digest.parse(document.blobs[0].digest))
    assert missing(repository, document) == (document.blobs[0].digest,)


@pytest.mark.parametrize("size", [0, 1, 2**62])
def test_a_size_that_is_not_the_blobs(driver: Driver, size: int) -> None:
    repository = at(driver)
    layer = Blob(b"layer")
    document = image(layers=[layer.descriptor(size=size)])
    give(repository, layer, *document.blobs)
    with pytest.raises(ManifestInvalid, match="Correct the size") as caught:
        put(repository, document)
    assert caught.value.detail == {"digest": layer.digest, "size": size, "stored": 5}
    assert repository.blobs.has(Digest.parse(layer.digest))


def test_a_blob_that_was_cut_is_missing_though_its_manifest_is_new(driver: Driver) -> None:
    """So the client pushes it again, which mends it."""
    repository = at(driver)
    document = image(b"a layer")
    give(repository, *document.blobs)
    layer = Digest.parse(document.blobs[1].digest)
    driver.write(layout.blob(layer), b"a la")
    assert missing(repository, document) == (str(layer),)
    assert not at(driver).blobs.has(layer)
    give(repository, document.blobs[1])
    put(repository, document)


def test_a_child_of_another_size(driver: Driver) -> None:
    repository = at(driver)
    child = image()
    give(repository, *child.blobs)
    put(repository, child, Tag("child"))
    with pytest.raises(ManifestInvalid, match="Correct the size"):
        put(repository, index(manifests=[child.descriptor(size=5)]))
    put(repository, index(child))


def test_children_must_be_manifests(driver: Driver) -> None:
    repository = at(driver)
    child = image()
    give(repository, *child.blobs, Blob(child.content))
    assert missing(repository, index(child)) == (child.digest,)
    put(repository, child, Tag("child"))
    inner = index(child)
    assert missing(repository, index(inner)) == (inner.digest,)
    put(repository, inner)
    put(repository, index(inner))


def test_the_index_of_an_old_build_cache(driver: Driver) -> None:
    """Its children are blobs, and its config a descriptor among them."""
    repository = at(driver)
    layer = Blob(b"layer")
    config = Blob(b"{}", "application/vnd.buildkit.cacheconfig.v0")
    cache = index(manifests=[layer.descriptor(), config.descriptor()])
    assert missing(repository, cache) == (layer.digest, config.digest)
    give(repository, layer, config)
    put(repository, cache)


def test_a_subject_may_be_absent(driver: Driver) -> None:
    repository = at(driver)
    document = image(subject=image().descriptor())
    give(repository, *document.blobs)
    put(repository, document)


@pytest.mark.parametrize("urls", [[], ["https://example.com/layer"], None])
def test_layers_that_are_elsewhere(driver: Driver, urls: Any) -> None:
    repository = at(driver)
    document = image(layers=[Blob(b"x", FOREIGN).descriptor(urls=urls)])
    give(repository, *document.blobs)
    put(repository, document)


BAD_URLS = [
    "file:///etc/passwd", "gopher://x/1", "//evil.example/x", "http:///x", "https://a/b#c", "ftp://a/b",
    "javascript:alert(1)", "data:text/plain,x", "", "x", "http://[", "http://[::1", "https://a]b/",
    "http:\\\\evil", "unix:///run/docker.sock", "https:a/b",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_urls_that_no_client_should_follow(driver: Driver, url: str) -> None:
    repository = at(driver)
    for descriptor in (
        Blob(b"x", FOREIGN).descriptor(urls=["https://a/b", url]),
        Blob(b"x").descriptor(urls=[url]),
    ):
        document = image(layers=[descriptor])
        give(repository, *document.blobs, Blob(b"x"))
        with pytest.raises(ManifestInvalid, match="URL"):
            put(repository, document)
    with pytest.raises(ManifestInvalid, match="URL"):
        put(repository, index(manifests=[image().descriptor(urls=[url])]))


@pytest.mark.parametrize(
    ("url", "allow", "deny", "taken"),
    [
        ("https://good.example/x", ["^https://good"], [], True),
        ("https://bad.example/x", ["^https://good"], [], False),
        ("https://good.example/x", [], ["secret"], True),
        ("https://good.example/secret", [], ["secret"], False),
        ("https://good.example/secret", ["^https://good"], ["secret"], False),
        ("file:///good", ["^file:"], [], False),
    ],
)
def test_the_operators_rules(
    driver: Driver, url: str, allow: list[str], deny: list[str], taken: bool
) -> None:
    requirements = Requirements(
        allowed_urls=[re.compile(rule) for rule in allow],
        denied_urls=[re.compile(rule) for rule in deny],
    )
    repository = at(driver, requirements)
    document = image(layers=[Blob(b"x", FOREIGN).descriptor(urls=[url])])
    give(repository, *document.blobs)
    if taken:
        put(repository, document)
    else:
        with pytest.raises(ManifestInvalid):
            put(repository, document)


def test_validation_switched_off(driver: Driver) -> None:
    put(at(driver, Requirements(enabled=False)), image(b"absent"))


LINUX = {"os": "linux", "architecture": "amd64"}
WINDOWS = {"os": "windows", "architecture": "amd64"}


@pytest.mark.parametrize(
    ("platforms", "platform", "taken"),
    [
        ("all", LINUX, False),
        ("none", LINUX, True),
        ("none", None, True),
        ([("linux", "amd64")], LINUX, False),
        ([("linux", "amd64")], WINDOWS, True),
        ([("linux", "amd64")], None, False),
        ([("linux", "amd64")], {"os": ["linux"], "architecture": {}}, True),
        ([], LINUX, True),
    ],
)
def test_sparse_indexes(
    driver: Driver, platforms: Any, platform: dict[str, Any] | None, taken: bool
) -> None:
    repository = at(driver, Requirements(platforms=platforms))
    child = image().descriptor(platform=platform)
    document = index(manifests=[child])
    if taken:
        put(repository, document)
    else:
        assert missing(repository, document) == (child["digest"],)


@pytest.mark.parametrize("media_type", sorted(mediatype.MANIFESTS))
def test_a_blob_does_not_stand_in_for_a_manifest(driver: Driver, media_type: str) -> None:
    repository = at(driver)
    blob = Blob(b"{}", media_type)
    give(repository, blob)
    assert missing(repository, index(manifests=[blob.descriptor()])) == (blob.digest,)


class FarAway(MemoryDriver):
    """Another machine, which answers only when so many ask of blobs at the same time."""

    remote = True

    def __init__(self, together: int) -> None:
        super().__init__()
        self.asked = threading.Barrier(together)

    def stat(self, key: str) -> ObjectInfo:
        if key.startswith(layout.BLOBS):
            self.asked.wait(30)
        return super().stat(key)


def test_another_machine_is_asked_of_all_blobs_at_once() -> None:
    document = image(*(f"layer {number}".encode() for number in range(7)))
    driver = FarAway(len(document.blobs))
    repository = at(driver)
    give(repository, *document.blobs)
    put(repository, document)
    assert not driver.asked.broken
