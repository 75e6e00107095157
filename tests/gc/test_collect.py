"""What goes and what stays, on every storage."""

from __future__ import annotations

import json
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from registry_gc.options import DAY
from registry_gc.outcome import Busy, CollectionStopped, Undecodable

from storage import layout
from storage.driver import Driver
from storage.driver_errors import Unavailable
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from tests.gc.conftest import STORAGES
from tests.gc.shop import AT_ONCE, IMAGE, INDEX, LAYER, Shop, descriptor

ONE, TWO, THREE = b"one", b"two", b"three"
ON_RCLONE = pytest.mark.parametrize("shop", [*STORAGES, "rclone_s3"], indirect=True)


@ON_RCLONE
def test_garbage_goes_and_what_is_needed_stays(shop: Shop) -> None:
    first = shop.image("a/b", "1", ONE, TWO)
    second = shop.image("a/b", "2", TWO, THREE)
    other = shop.image("c", "1", THREE)
    shop.repository("a/b").manifests.delete(second)
    lonely = shop.blob("a/b", b"never named")
    report = shop.collect()
    assert report.blobs_removed == 2
    assert report.links_removed == 1
    assert not shop.has_blob(second)
    assert not shop.has_blob(lonely)
    assert layout.layer(RepositoryName("a/b"), lonely) not in shop.tree()
    assert shop.pulls("a/b", first)
    assert shop.pulls("c", other)


def test_a_second_run_finds_nothing_to_do(shop: Shop) -> None:
    shop.repository("a").manifests.delete(shop.image("a", "1", ONE))
    assert shop.collect().blobs_removed == 3
    report = shop.collect()
    assert (report.blobs_removed, report.condemned_blobs, report.waiting) == (0, 0, 0)


def test_what_is_removed_can_be_pushed_again(shop: Shop) -> None:
    digest = shop.image("a", "1", ONE)
    shop.repository("a").manifests.delete(digest)
    shop.collect()
    assert shop.image("a", "1", ONE) == digest
    shop.collect()
    assert shop.pulls("a", digest)


def test_a_dry_run_counts_and_writes_nothing(shop: Shop) -> None:
    shop.repository("a").manifests.delete(shop.image("a", "1", ONE))
    before = {info.key for info in shop.driver.walk(layout.ROOT)}
    report = shop.collect(dry_run=True)
    assert report.condemned_blobs == 3
    assert report.condemned_bytes > 0
    assert {info.key for info in shop.driver.walk(layout.ROOT)} == before


@ON_RCLONE
def test_offline_removes_in_one_pass(shop: Shop) -> None:
    kept = shop.image("a", "1", ONE)
    shop.repository("a").manifests.delete(shop.image("a", "2", TWO))
    report = shop.collect(offline=True, again=False)
    assert report.blobs_removed == 2
    assert shop.pulls("a", kept)


def test_what_is_young_is_not_condemned(shop: Shop) -> None:
    shop.blob("a", ONE)
    assert shop.collect(minimum_age=3600).condemned_blobs == 0
    assert shop.has_blob(Digest.of(ONE))


def test_what_was_condemned_stays_until_it_may_go(shop: Shop) -> None:
    lonely = shop.blob("a", ONE)
    for _ in range(3):
        report = shop.collect(again=False, undo=3600.0)
        assert report.waiting == 1
        assert report.blobs_removed == 0
    assert shop.has_blob(lonely)
    assert shop.collect(again=False, undo=0.0).blobs_removed == 1
    assert not shop.has_blob(lonely)


@ON_RCLONE
def test_what_was_condemned_and_is_needed_again_stays(shop: Shop) -> None:
    shop.blob("a", ONE)
    shop.collect(again=False, undo=3600.0)
    digest = shop.image("a", "1", ONE)
    shop.collect(again=False, undo=0.0)
    assert shop.pulls("a", digest)


def test_children_of_an_index_are_needed(shop: Shop) -> None:
    children = [shop.image("a", None, ONE), shop.image("a", None, TWO)]
    index = shop.index("a", "1", children)
    outer = shop.index("a", "2", [index])
    shop.collect(untagged=-10.0)
    assert shop.pulls("a", outer)
    shop.repository("a").tags.delete(Tag("1"))
    shop.collect(untagged=-10.0)
    assert shop.pulls("a", outer)


@ON_RCLONE
def test_untagged_manifests_go_only_if_they_may(shop: Shop) -> None:
    tagged, untagged = shop.image("a", "1", ONE), shop.image("a", None, TWO)
    shop.collect()
    assert shop.pulls("a", untagged)
    shop.collect(untagged=3600.0)
    assert shop.pulls("a", untagged)
    report = shop.collect(untagged=-10.0)
    assert report.manifests_removed == 1
    assert not shop.pulls("a", untagged)
    assert shop.has_blob(Digest.of(TWO)), "its blobs go a generation later"
    shop.collect(untagged=-10.0)
    assert not shop.has_blob(Digest.of(TWO))
    assert shop.pulls("a", tagged)


def test_signatures_of_a_live_image_are_needed_and_go_with_it(shop: Shop) -> None:
    """Distribution #4285 and its kind: `--delete-untagged` deleted every signature."""
    image = shop.image("a", "1", ONE)
    signature = shop.image("a", None, b"signature", subject=shop.content(image))
    of_it = shop.image("a", None, b"sbom", subject=shop.content(signature))
    shop.collect(untagged=-10.0)
    assert shop.pulls("a", signature)
    assert shop.pulls("a", of_it)
    shop.repository("a").manifests.delete(image)
    shop.collect(untagged=-10.0)
    shop.collect(untagged=-10.0)
    assert not shop.pulls("a", signature)
    assert not shop.pulls("a", of_it)


def test_artifacts_and_types_nobody_knows_keep_what_they_name(shop: Shop) -> None:
    helm = shop.image(
        "charts", "1", b"chart", artifactType="application/vnd.cncf.helm.config.v1+json"
    )
    strange = {"schemaVersion": 2, "things": [{"deep": [{"digest": str(shop.blob("a", ONE))}]}]}
    content = json.dumps(strange).encode()
    digest = Digest.of(content)
    shop.driver.write(layout.blob(digest), content)
    shop.driver.write(layout.revision(RepositoryName("a"), digest), str(digest).encode())
    shop.collect(untagged=None)
    assert shop.pulls("charts", helm)
    assert shop.has_blob(Digest.of(ONE))


def test_a_buildkit_cache_keeps_its_layers(shop: Shop) -> None:
    """An index whose "manifests" are blobs, with a config among them."""
    layers = [shop.blob("a", ONE), shop.blob("a", TWO)]
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{"mediaType": LAYER, "digest": str(digest), "size": 3} for digest in layers]
        + [descriptor(b"{}", "application/vnd.buildkit.cacheconfig.v0")],
    }
    config = shop.blob("a", b"{}")
    cache = shop.manifest("a", "cache", document)
    shop.collect(untagged=-10.0)
    assert all(map(shop.has_blob, [cache, config, *layers]))


def test_docker_schema_1_keeps_its_layers(shop: Shop) -> None:
    layer = shop.blob("a", ONE)
    content = json.dumps({"schemaVersion": 1, "fsLayers": [{"blobSum": str(layer)}]}).encode()
    digest = Digest.of(content)
    shop.driver.write(layout.blob(digest), content)
    shop.driver.write(layout.revision(RepositoryName("a"), digest), str(digest).encode())
    shop.collect()
    assert shop.has_blob(layer)


def test_sha512_references_keep_their_blobs(shop: Shop) -> None:
    digest = shop.image("a", "1", ONE, algorithm="sha512")
    shop.collect()
    assert shop.pulls("a", digest)


def test_content_that_distribution_stored_under_another_name_is_needed(shop: Shop) -> None:
    """It keeps a sha512 push under the sha256, and the sha512 as a link with the sha256 in it."""
    name, long, short = RepositoryName("a"), Digest.of(ONE, "sha512"), Digest.of(ONE)
    shop.driver.write(layout.blob(short), ONE)
    shop.driver.write(layout.layer(name, short), str(short).encode())
    shop.driver.write(layout.layer(name, long), str(short).encode())
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(b"{}", "application/json"),
        "layers": [descriptor(ONE, LAYER, "sha512")],
    }
    shop.blob("a", b"{}")
    digest = shop.manifest("a", "1", document)
    shop.collect()
    assert shop.pulls("a", digest)
    shop.repository("a").manifests.delete(digest)
    shop.collect()
    assert not shop.has_blob(short)
    assert layout.layer(name, long) not in shop.tree()


@pytest.mark.parametrize("content", [b"", b"sha256:", b"\0" * 71])
def test_a_damaged_revision_link_keeps_what_its_place_names(shop: Shop, content: bytes) -> None:
    """Harbor #15970: an empty link stopped the whole collection; here it must not cost an image."""
    damaged, other = shop.image("a", "1", ONE), shop.image("b", "1", TWO)
    shop.driver.write(layout.revision(RepositoryName("a"), damaged), content)
    shop.blob("b", b"garbage")
    assert shop.collect().blobs_removed == 1
    assert shop.has_blob(damaged)
    assert shop.has_blob(Digest.of(ONE))
    assert shop.pulls("b", other)


def test_a_dangling_link_is_counted_and_stops_nothing(shop: Shop) -> None:
    shop.image("a", "1", ONE)
    shop.driver.write(layout.revision(RepositoryName("a"), Digest.of(b"gone")), b"")
    shop.blob("a", b"garbage")
    report = shop.collect()
    assert report.totals.dangling == 1
    assert report.blobs_removed == 1


def test_what_cannot_be_read_as_a_manifest_stops_the_run(shop: Shop) -> None:
    digest = Digest.of(b"no manifest")
    shop.driver.write(layout.blob(digest), b"no manifest")
    shop.driver.write(layout.revision(RepositoryName("a"), digest), str(digest).encode())
    lonely = shop.blob("a", ONE)
    with pytest.raises(Undecodable, match=str(digest)):
        shop.collect()
    assert shop.has_blob(lonely)
    shop.collect(ignore=frozenset([digest]))
    assert not shop.has_blob(lonely)


def test_repositories_within_repositories(shop: Shop) -> None:
    kept = [shop.image(name, "1", name.encode()) for name in ("a", "a/b", "a/b/c", "a-b", "a0")]
    shop.blob("a/b", b"garbage")
    assert shop.collect(untagged=-10.0).blobs_removed == 1
    for name, digest in zip(("a", "a/b", "a/b/c", "a-b", "a0"), kept, strict=True):
        assert shop.pulls(name, digest)


@ON_RCLONE
def test_a_page_of_a_listing_is_no_border(shop: Shop) -> None:
    """Distribution's S3 driver lists by 1,000; what comes after must be seen."""
    name = RepositoryName("a")
    digest = shop.image("a", "1", ONE)

    def fill(number: int) -> None:
        filler = Digest.of(b"%d" % number)
        shop.driver.write(layout.revision(name, filler), str(filler).encode())

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(fill, range(1100)):
            pass
    last = shop.image("z", "1", TWO)
    report = shop.collect(untagged=None)
    assert report.totals.manifests == 1102
    assert report.totals.dangling == 1100
    assert shop.pulls("a", digest)
    assert shop.pulls("z", last)


@ON_RCLONE
def test_uploads_that_nobody_goes_on_with_go(shop: Shop) -> None:
    uploads = shop.repository("a").uploads
    with uploads.resume(uploads.start()) as session:
        session.append([ONE])
        session.checkpoint()
    shop.collect(uploads=3600.0)
    assert any("/_uploads/" in key for key in growing(shop))
    assert shop.collect(uploads=-10.0).uploads_removed == 1
    assert not any("/_uploads/" in key for key in growing(shop))


def growing(shop: Shop) -> set[str]:
    """What the storage shows of uploads; in memory what grows is kept apart."""
    held: dict[str, Any] = getattr(shop.driver, "_growing", {})
    return shop.tree() | set(held)


def test_a_deletion_during_the_mark_costs_nobody_else_anything(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distribution lost four images that nobody had touched when a fifth was deleted meanwhile."""
    digests = [shop.image("a", str(number), b"%d" % number) for number in range(6)]
    first = min(digests, key=str)
    plain = type(shop.driver).read
    deleted: list[Digest] = []

    def read(self: Driver, key: str, **more: Any) -> bytes:
        if not deleted and key.startswith(layout.BLOBS):
            deleted.append(first)
            shop.repository("a").manifests.delete(first)
        return plain(self, key, **more)

    monkeypatch.setattr(type(shop.driver), "read", read)
    shop.collect(threads=1)
    assert deleted
    monkeypatch.undo()
    for digest in digests:
        assert shop.pulls("a", digest) == (digest != first)


def test_an_error_while_marking_condemns_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.image("a", "1", ONE)
    shop.blob("a", TWO)
    broken = Digest.of(TWO)

    def fail(*_: Any, **__: Any) -> Any:
        raise Unavailable("not now")

    monkeypatch.setattr(type(shop.driver), "walk", fail)
    with pytest.raises(Unavailable):
        shop.collect()
    monkeypatch.undo()
    report = shop.collect(again=False, undo=3600.0)
    assert report.condemned_blobs == 1
    assert shop.has_blob(broken)


@ON_RCLONE
def test_two_collectors_at_once(shop: Shop) -> None:
    kept = shop.image("a", "1", ONE)
    garbage = [shop.blob("a", b"%d" % number) for number in range(20)]

    def run(_: int) -> None:
        with suppress(CollectionStopped):  # one may take the place of the other
            shop.collect(alone=False, untagged=-10.0, chunk=7)

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(run, range(2)):
            pass
    shop.collect(alone=False)
    assert not any(map(shop.has_blob, garbage))
    assert shop.pulls("a", kept)


def test_the_clock_of_the_collector_is_believed_for_nothing(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    young, old = plain.blob("a", ONE), plain.blob("a", TWO)
    path = plain.driver.local_path(layout.blob(old))
    assert path is not None
    os.utime(path, (0, 0))
    wall = time.time
    for wrong in (-10 * DAY, 10 * DAY):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: wall() + wrong)
        assert plain.collect(again=False, minimum_age=DAY, undo=DAY).waiting == 1
        assert plain.has_blob(young)
        assert plain.has_blob(old)


@ON_RCLONE
def test_a_bucket_is_asked_for_a_manifest_once_ever(shop: Shop) -> None:
    images = [shop.image("a", str(number), b"%d" % number) for number in range(5)]
    assert shop.collect(again=False).manifests_fetched == 5
    again = 0 if shop.driver.remote else 5
    assert shop.collect(again=False).manifests_fetched == again
    images.append(shop.image("a", "5", ONE, subject=shop.content(images[0])))
    assert shop.collect(again=False).manifests_fetched == again + 1
    shop.repository("a").tags.delete(Tag("0"))
    shop.collect(untagged=-10.0)
    assert shop.pulls("a", images[5])
    assert not shop.pulls("a", images[0])
    shop.driver.delete_tree(layout.repository(RepositoryName("a")))
    shop.collect()
    assert [*shop.driver.walk(layout.REFERENCES)] == []


@pytest.mark.parametrize("shop", ["rgw"], indirect=True)
def test_a_bucket_is_not_asked_what_its_tags_name(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagged, other = shop.image("a", "1", ONE), shop.image("a", "2", TWO)
    shop.repository("a").tags.delete(Tag("2"))
    keys: list[str] = []
    read = shop.driver.read

    def noted(key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        keys.append(key)
        return read(key, offset=offset, length=length)

    monkeypatch.setattr(shop.driver, "read", noted)
    shop.collect(untagged=-10.0)
    assert layout.blob(tagged) in keys
    assert layout.tag_current(RepositoryName("a"), Tag("1")) not in keys
    monkeypatch.undo()
    assert shop.pulls("a", tagged)
    assert not shop.pulls("a", other)


def test_a_run_waits_for_no_other_unless_that_is_at_work(shop: Shop) -> None:
    from registry_gc.publishing import Publisher

    Publisher(shop.driver, f"other-{uuid.uuid4().hex[:8]}").publish()
    with pytest.raises(Busy):
        shop.collect()
    shop.blob("a", ONE)
    assert shop.collect(alone=False).blobs_removed == 1
    assert AT_ONCE.wait == 0
