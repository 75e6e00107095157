"""What a page of the catalog and of the tags costs in a bucket of half a million objects."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import httpx
import pytest

from storage import layout
from storage.catalog_index import CatalogIndex
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from tests.support.s3keys import BUCKET, S3Keys, s3_keys
from tests.support.servers import holdfast

OBJECTS = 500_000
TAGS = 10_000
IMAGES = 16
"""Of each repository but the one with the many tags."""
HUGE = RepositoryName("team/huge")
PAGE = 1000
"""Keys in one answer to a listing."""


def digests() -> Iterator[Digest]:
    for number in itertools.count():
        yield Digest("sha256", hashlib.sha256(b"%d" % number).hexdigest())


def a_tag(number: int) -> Tag:
    """With dots and dashes, which are what makes the order of keys another than that of tags."""
    return Tag(f"{number // 100}.{number % 100}-rc.1" if number % 3 else f"{number}")


TAGS_IN_ORDER = sorted(str(a_tag(number)) for number in range(TAGS))


def image(name: RepositoryName, tag: Tag, new: Iterator[Digest], layers: int) -> Iterator[str]:
    """The keys that the push of an image leaves: manifest, config and layers, and what names them."""
    manifest = next(new)
    yield layout.blob(manifest)
    yield layout.revision(name, manifest)
    yield layout.tag_current(name, tag)
    yield layout.tag_index(name, tag, manifest)
    for digest in itertools.islice(new, layers + 1):
        yield layout.blob(digest)
        yield layout.layer(name, digest)


def every_key() -> Iterator[str]:
    new = digests()
    for number in range(TAGS):
        yield from image(HUGE, a_tag(number), new, -1)
    for number in itertools.count():
        name = RepositoryName(f"team-{number % 40}/app-{number}")
        for version in range(IMAGES):
            yield from image(name, Tag(f"v1.{version}"), new, 4)


@pytest.fixture(scope="module")
def keys() -> Iterator[S3Keys]:
    with s3_keys(itertools.islice(every_key(), OBJECTS), str(next(digests())).encode()) as server:
        yield server


@pytest.fixture(scope="module")
def names(keys: S3Keys) -> list[str]:
    """Of all repositories, in the order of the catalog."""
    start = len(layout.REPOSITORIES) + 1
    found = {key[start : key.index("/_")] for key in keys.keys if "/_" in key}
    return sorted(found, key=lambda name: f"{name}/")


@pytest.fixture(scope="module")
def walk(keys: S3Keys) -> dict[str, int]:
    """What it costs to make the catalog's index of a tree that others have written."""
    driver = S3Driver(S3Settings(**keys.store.parameters(BUCKET)))
    CatalogIndex(driver).rebuild()
    driver.close()
    return keys.counts()


@pytest.fixture(scope="module")
def registry(
    walk: dict[str, int], keys: S3Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Asked once, so that it knows what it asks for only once in its life."""
    config = {
        "storage": {"s3": keys.store.parameters(BUCKET)},
        # Nothing else may list while pages are counted.
        "health": {"storagedriver": {"interval": "10m"}},
    }
    directory = tmp_path_factory.mktemp("scale")
    with (
        holdfast(directory, driver="s3", workers=1, config=config) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        assert http.get("/v2/_catalog").status_code == 200
        assert http.get("/v2/team/huge/tags/list?n=1").status_code == 200
        yield http


def listings(keys: S3Keys) -> int:
    """Since the last time."""
    return keys.counts().get("ListObjectsV2", 0)


def test_an_index_is_made_by_one_walk(walk: dict[str, int], keys: S3Keys, names: list[str]) -> None:
    """Once in a bucket's life, and once a day: a request for each thousand keys."""
    below = sum(key.startswith(layout.REPOSITORIES) for key in keys.keys)
    assert len(names) > 2000
    assert walk["ListObjectsV2"] <= below // 1000 + 2
    assert walk["PutObject"] == len(names) + 1


@pytest.mark.parametrize("size", [100, 1000])
def test_a_page_of_the_catalog(
    registry: httpx.Client, keys: S3Keys, names: list[str], size: int
) -> None:
    for start in (0, len(names) // 2):
        last = f"&last={names[start - 1]}" if start else ""
        keys.counts()
        answer = registry.get(f"/v2/_catalog?n={size}{last}")
        assert listings(keys) < 5
        assert answer.json()["repositories"] == names[start : start + size]
        assert "next" in answer.links


@pytest.mark.parametrize("size", [100, 1000])
def test_pages_of_many_tags(registry: httpx.Client, keys: S3Keys, size: int) -> None:
    """Whatever page it is, to the last one: none is found by way of those before it."""
    found: list[str] = []
    url = f"/v2/{HUGE}/tags/list?n={size}"
    while url:
        keys.counts()
        answer = registry.get(url)
        assert listings(keys) < 5, f"page {len(found) // size}"
        found += answer.json()["tags"]
        url = answer.links["next"]["url"] if "next" in answer.links else ""
    assert found == TAGS_IN_ORDER


def test_all_of_many_tags_at_once(registry: httpx.Client, keys: S3Keys) -> None:
    """As `docker` never asks, but scripts do: a request for each thousand, and none for each tag."""
    keys.counts()
    answer = registry.get(f"/v2/{HUGE}/tags/list")
    counts = keys.counts()
    assert answer.json()["tags"] == TAGS_IN_ORDER
    assert sum(counts.values()) <= TAGS // PAGE + 3


def test_tags_of_one_of_many_repositories(
    registry: httpx.Client, keys: S3Keys, names: list[str]
) -> None:
    keys.counts()
    answer = registry.get(f"/v2/{names[len(names) // 3]}/tags/list")
    assert len(answer.json()["tags"]) == IMAGES
    assert listings(keys) < 3
