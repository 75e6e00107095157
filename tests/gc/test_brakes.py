"""Signs of a mistake stop a run before it condemns anything."""

from __future__ import annotations

import pytest
from registry_gc.outcome import Braked

from storage import layout
from tests.gc.shop import Shop


def fill(shop: Shop, images: int) -> None:
    for number in range(images):
        shop.image("a", f"v{number}", b"layer %d" % number)


def test_blobs_without_any_manifest(plain: Shop) -> None:
    digest = plain.blob("a", b"one")
    with pytest.raises(Braked, match="not one manifest"):
        plain.collect(force=False)
    assert plain.has_blob(digest)
    plain.collect(force=True)
    assert not plain.has_blob(digest)


def test_more_than_a_share(plain: Shop) -> None:
    fill(plain, 40)
    for number in range(20):
        plain.repository("a").tags.delete(plain.repository("a").list_tags()[0][0])
        plain.blob("a", b"garbage %d" % number)
    with pytest.raises(Braked, match="30%"):
        plain.collect(force=False, untagged=-10.0)
    assert not [*plain.driver.walk(layout.RUNS)]
    assert plain.collect(force=False).blobs_removed == 20


def test_half_of_everything_is_gone_since_the_last_run(plain: Shop) -> None:
    fill(plain, 40)
    plain.collect(force=False)
    plain.driver.delete_many([i.key for i in plain.driver.walk(layout.BLOBS)][:50])
    with pytest.raises(Braked, match="more than half"):
        plain.collect(force=False)


def test_few_blobs_have_no_shares(plain: Shop) -> None:
    plain.image("a", "1", b"one")
    plain.blob("a", b"two")
    assert plain.collect(force=False).blobs_removed == 1


def test_an_empty_storage_is_no_mistake(plain: Shop) -> None:
    assert plain.collect(force=False).totals.blobs == 0
