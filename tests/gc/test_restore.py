"""What was removed comes back, whole or not at all."""

from __future__ import annotations

import os
import time

from registry_gc.options import DAY
from registry_gc.restoring import Restored, Restorer

from storage import layout
from storage.collection import journal
from storage.collection.clock import Clock
from storage.model.digest import Digest
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


def test_what_went_to_the_trash_comes_back(plain: Shop) -> None:
    digest = plain.image("a", "1", b"one")
    plain.repository("a").manifests.delete(digest)
    assert plain.collect(trash=3600.0).blobs_removed == 3
    assert not plain.has_blob(Digest.of(b"one"))
    assert all(each.done for each in restore(plain))
    assert plain.pulls("a", digest)
    assert plain.repository("a").tags.current(Tag("1")) == digest
    assert plain.content(Digest.of(b"one")) == b"one"
    assert plain.collect().blobs_removed == 0
    assert plain.pulls("a", digest)


def test_an_index_comes_back_from_the_trash_with_its_children(plain: Shop) -> None:
    children = [plain.image("a", None, b"one"), plain.image("a", None, b"two")]
    index = plain.index("a", "1", children)
    for digest in (index, *children):
        plain.repository("a").manifests.delete(digest)
    assert plain.collect(trash=3600.0).blobs_removed == 6
    assert all(each.done for each in restore(plain))
    assert plain.pulls("a", index)


def test_a_blob_that_only_its_link_was_lost_of_is_linked_again(plain: Shop) -> None:
    digest = plain.image("a", "1", b"one")
    plain.repository("a").manifests.delete(digest)
    plain.collect(trash=3600.0)
    plain.image("b", "1", b"one")
    assert all(each.done for each in restore(plain))
    assert plain.pulls("a", digest)


def test_content_that_is_not_what_it_is_called_stays_in_the_trash(plain: Shop) -> None:
    """`registry fsck` puts what has rotted there as well."""
    digest = plain.image("a", "1", b"one")
    plain.repository("a").manifests.delete(digest)
    plain.driver.write(layout.blob(Digest.of(b"one")), b"0ne")
    plain.collect(trash=3600.0)
    results = restore(plain)
    assert not any(each.done for each in results)
    assert not plain.has_blob(Digest.of(b"one"))
    assert not plain.pulls("a", digest)


def test_what_comes_back_from_the_trash_is_as_young_as_a_push(plain: Shop) -> None:
    digest = plain.image("a", "1", b"one")
    layer = plain.driver.local_path(layout.blob(Digest.of(b"one")))
    assert layer is not None
    os.utime(layer, (0, 0))
    plain.repository("a").manifests.delete(digest)
    plain.collect(trash=3600.0)
    restore(plain)
    assert layer.stat().st_mtime > time.time() - 600


def test_a_removal_is_recorded_for_as_long_as_its_content_is_kept(plain: Shop) -> None:
    """Content is condemned up to `minimum_age` after it was deleted, and then has `undo` and `trash`."""
    digest = plain.image("a", "1", b"one")
    plain.repository("a").manifests.delete(digest)
    (record,) = (
        info.key
        for info in plain.driver.walk(layout.JOURNAL)
        if b'"tag"' in plain.driver.read(info.key)
    )
    path = plain.driver.local_path(record)
    assert path is not None
    for days, there in ((4.9, True), (5.1, False)):
        then = time.time() - days * DAY
        os.utime(path, (then, then))
        plain.collect(again=False, minimum_age=DAY, undo=2 * DAY, trash=DAY)
        assert path.exists() == there
