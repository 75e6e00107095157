"""The catalog of a remote storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import catalog_index, layout
from storage.catalog import Catalog
from storage.catalog_index import CatalogIndex
from storage.driver import ObjectInfo
from storage.model.digest import Digest
from storage.model.reference import RepositoryName
from storage.repository import Store
from tests.storage.remote import RemoteMemory

NAMES = ["a", "a-b", "a.b", "a/b", "a/b/c", "a_b", "b", "team/app", "team/app-x"]
MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
)
INDEX = "application/vnd.oci.image.index.v1+json"


def put(driver: RemoteMemory, name: str) -> None:
    """As another registry would: nothing but the tree."""
    key = layout.revision(RepositoryName(name), Digest.of(name.encode()))
    driver.write(key, str(Digest.of(name.encode())).encode())


def listed(catalog: Catalog, limit: int = 1000) -> list[str]:
    found: list[str] = []
    after, more = "", True
    while more:
        names, more = catalog.list(after=after, limit=limit)
        found += map(str, names)
        after = found[-1] if found else ""
    return found


def in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: f"{name}/")


def test_a_tree_of_others_is_read_as_it_is_until_it_was_walked() -> None:
    driver = RemoteMemory()
    for name in NAMES:
        put(driver, name)
    index = CatalogIndex(driver)
    catalog = Catalog(driver, index)
    assert listed(catalog, 2) == in_order(NAMES)
    assert index.rebuild() == len(NAMES)
    assert index.is_complete()
    driver.asked.clear()
    assert listed(catalog) == in_order(NAMES)
    assert driver.asked == {"list": 1}
    assert listed(catalog, 2) == in_order(NAMES)


def test_a_page_costs_one_listing_whatever_the_repositories_hold() -> None:
    driver = RemoteMemory()
    for number in range(300):
        put(driver, f"team{number % 7}/app{number}")
    CatalogIndex(driver).rebuild()
    driver.asked.clear()
    names, more = Catalog(driver, CatalogIndex(driver)).list(after="team3", limit=20)
    assert (len(names), more) == (20, True)
    assert driver.asked == {"stat": 1, "list": 1}


def test_a_first_push_appears_at_once_and_later_ones_write_no_entry() -> None:
    driver = RemoteMemory()
    store = Store(driver)
    assert store.catalog_index is not None
    store.catalog_index.rebuild()
    repository = store.repository(RepositoryName("team/app"))
    repository.manifests.put(MANIFEST, INDEX, Digest.of(MANIFEST))
    assert listed(store.catalog) == ["team/app"]
    driver.asked.clear()
    repository.manifests.put(MANIFEST, INDEX, Digest.of(MANIFEST))
    assert driver.asked["write"] == 1  # the revision link


def test_a_refused_manifest_makes_no_repository() -> None:
    driver = RemoteMemory()
    store = Store(driver)
    assert store.catalog_index is not None
    store.catalog_index.rebuild()
    with pytest.raises(Exception, match="digest"):
        store.repository(RepositoryName("a")).manifests.put(MANIFEST, INDEX, Digest.of(b"other"))
    assert listed(store.catalog) == []


def test_a_walk_finds_what_others_pushed_and_forgets_what_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = RemoteMemory()
    index = CatalogIndex(driver)
    index.enter(RepositoryName("gone"))
    put(driver, "new")
    assert index.rebuild() == 1
    assert listed(Catalog(driver, index)) == ["gone", "new"]  # so young that it may be coming
    monkeypatch.setattr(catalog_index, "YOUNG", -1.0)
    assert index.rebuild() == 1
    assert listed(Catalog(driver, index)) == ["new"]


def test_until_the_first_walk_has_ended_nothing_rests_on_it() -> None:
    class Broken(RemoteMemory):
        def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
            yield from super().walk(prefix, after=after)
            raise OSError("gone")

    driver = Broken()
    put(driver, "a")
    index = CatalogIndex(driver)
    with pytest.raises(OSError, match="gone"):
        index.rebuild()
    assert not index.is_complete()
    assert listed(Catalog(driver, index)) == ["a"]


def test_what_is_no_name_is_passed_over() -> None:
    driver = RemoteMemory()
    put(driver, "a")
    driver.write(f"{layout.REPOSITORIES}/UPPER/_manifests/tags/1/current/link", b"x")
    driver.write(f"{layout.CATALOG}/zz", b"")
    driver.write(f"{layout.CATALOG}/{b'UPPER/'.hex()}", b"")
    index = CatalogIndex(driver)
    assert index.rebuild() == 1
    assert listed(Catalog(driver, index)) == ["a"]


_NAMES = st.from_regex(r"[a-c]([.-]?[a-c0])?(/[a-c]([.-][a-c])?)?", fullmatch=True)


@given(st.sets(_NAMES, max_size=30), st.integers(1, 5))
def test_the_index_and_the_tree_are_in_one_order(names: set[str], limit: int) -> None:
    driver = RemoteMemory()
    for name in names:
        put(driver, name)
    index = CatalogIndex(driver)
    before = listed(Catalog(driver, index), limit)
    index.rebuild()
    assert listed(Catalog(driver, index), limit) == before == in_order(list(names))
