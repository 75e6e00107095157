"""What was removed comes back, whole or not at all."""

from __future__ import annotations

from registry_gc.restoring import Restored, Restorer

from storage.collection import journal
from storage.collection.clock import Clock
from storage.model.reference import RepositoryName, Tag
from storage.repository import Store
from tests.gc.shop import Shop

NAME = RepositoryName("a")


def restore(shop: Shop) -> list[Restored]:
    records = sorted(journal.recorded(shop.driver), key=lambda each: each.time, reverse=True)
    restorer = Restorer(Store(shop.driver), records, Clock())
    return restorer.restore([each.removal for each in records])


def test_a_deleted_tag_comes_back(plain: Shop) -> None:
    digest = plain.image("a", "1", b"one")
    plain.repository("a").tags.delete(Tag("1"))
    plain.collect(again=False, undo=3600.0, untagged=-10.0)
    assert all(each.done for each in restore(plain))
    assert plain.repository("a").tags.current(Tag("1")) == digest
    assert plain.pulls("a", digest)


def test_a_deleted_manifest_comes_back_with_its_tags(plain: Shop) -> None:
    digest = plain.image("a", "1", b"one")
    plain.repository("a").manifests.delete(digest)
    plain.collect(again=False, undo=3600.0)
    assert all(each.done for each in restore(plain))
    assert plain.repository("a").tags.current(Tag("1")) == digest
    plain.collect()
    assert plain.pulls("a", digest)


def test_an_index_comes_back_with_children_that_went_with_it(plain: Shop) -> None:
    children = [plain.image("a", None, b"one"), plain.image("a", None, b"two")]
    index = plain.index("a", "1", children)
    for digest in (index, *children):
        plain.repository("a").manifests.delete(digest)
    assert all(each.done for each in restore(plain))
    assert plain.pulls("a", index)


def test_what_the_collector_removed_comes_back(plain: Shop) -> None:
    plain.image("a", "1", b"one")
    untagged = plain.image("a", None, b"two")
    assert plain.collect(untagged=-10.0).manifests_removed == 1
    assert not plain.pulls("a", untagged)
    assert all(each.done for each in restore(plain))
    assert plain.pulls("a", untagged)


def test_a_tag_that_was_pushed_again_is_left_alone(plain: Shop) -> None:
    plain.image("a", "1", b"one")
    plain.repository("a").tags.delete(Tag("1"))
    other = plain.image("a", "1", b"two")
    results = restore(plain)
    assert [each.done for each in results] == [False]
    assert plain.repository("a").tags.current(Tag("1")) == other


def test_what_is_gone_for_good_is_said_and_nothing_is_half_there(plain: Shop) -> None:
    digest = plain.image("a", "1", b"one")
    plain.repository("a").manifests.delete(digest)
    plain.collect()
    results = restore(plain)
    assert not any(each.done for each in results)
    assert all("cannot be restored" in each.sentence for each in results)
    assert plain.repository("a").tags.current(Tag("1")) is None
