"""What pushes and pulls cost in requests to S3, through the store as the API uses it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from storage import layout, listed_links
from storage.collection import entries
from storage.collection.guard import Guard
from storage.collection.timing import Timing
from storage.driver_errors import ObjectNotFound
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from storage.listed_links import WORTH
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid, RangeInvalid, UploadUnknown
from storage.model.reference import RepositoryName, Tag
from storage.remembered import Memory, RememberingDriver, Staleness
from storage.repository import Repository, Store
from tests.support.s3 import S3Store
from tests.support.s3proxy import Answer, S3Proxy, s3_proxy

MEBIBYTE = 1024 * 1024
CHUNK = 8 * MEBIBYTE
NAME = RepositoryName("team/app")
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
)
DELETED_LATER = "DeleteObjects"  # shared by all uploads of some seconds


@dataclass
class World:
    """Nodes on one bucket, each a store of its own; requests are counted."""

    proxy: S3Proxy
    drivers: list[S3Driver]

    def repository(self, node: int = 0) -> Repository:
        return self.stores[node].repository(NAME)

    def __post_init__(self) -> None:
        """What the collector's state costs is shared by all pushes of some seconds; see below."""
        self.stores = [
            Store(driver, staleness=Staleness(), guard=Guard(driver, Timing(view=400.0)))
            for driver in self.drivers
        ]
        for store in self.stores:
            store.guard.rely([])
        self.proxy.forget()

    def spent(self) -> Counter[str]:
        """Since the last time, but for deletions that are shared."""
        counts = Counter(self.proxy.counts())
        self.proxy.forget()
        del counts[DELETED_LATER]
        return counts


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def world(rgw: S3Store) -> Iterator[World]:
    with rgw.fresh() as bucket, s3_proxy(rgw) as proxy:
        settings = S3Settings(
            **proxy.store.parameters(bucket),
            chunksize=CHUNK,
            uploadmemory=8 * CHUNK,  # so little that no parts are larger than the others
            multipartcopychunksize=CHUNK,
            multipartcopythresholdsize=2 * CHUNK,
        )
        drivers = [S3Driver(settings) for _ in range(3)]
        yield World(proxy, drivers)
        for driver in drivers:
            driver.close()


def patch_and_put(world: World, content: bytes, nodes: tuple[int, int, int] = (0, 0, 0)) -> Digest:
    """As docker pushes: POST, PATCH with everything, PUT with the digest."""
    digest = Digest.of(content)
    progress = world.repository(nodes[0]).uploads.start()
    with world.repository(nodes[1]).uploads.resume(progress) as session:
        session.append([content])
        progress = session.checkpoint()
    uploads = world.repository(nodes[2]).uploads
    with uploads.resume(progress, digest) as session:
        uploads.commit(session, digest)
    return digest


def stored(world: World, digest: Digest, node: int = 0) -> bytes:
    _, reader = world.repository(node).blobs.open(digest)
    try:
        return reader.read_at(0, 64 * MEBIBYTE)
    finally:
        reader.close()


@pytest.mark.parametrize("nodes", [(0, 0, 0), (0, 1, 2)], ids=["one", "three"])
def test_a_small_blob_costs_four_requests(world: World, nodes: tuple[int, int, int]) -> None:
    content = os.urandom(50_000)
    digest = patch_and_put(world, content, nodes)
    spent = world.spent()
    assert spent.total() <= 4, spent
    assert stored(world, digest) == content


def test_an_empty_blob(world: World) -> None:
    digest = patch_and_put(world, b"")
    assert stored(world, digest) == b""


def test_to_ask_what_the_collector_does_costs_one_list_for_all_pushes_of_some_seconds(
    world: World,
) -> None:
    guard = Guard(world.drivers[0])
    for number in range(10):
        guard.rely([entries.blob(Digest.of(b"%d" % number))]).confirm()
    assert world.spent() == {"ListObjectsV2": 1}


def test_a_blob_whose_digest_comes_first_costs_two(world: World) -> None:
    content = os.urandom(50_000)
    digest = Digest.of(content)
    uploads = world.repository().uploads
    progress = uploads.start()
    with uploads.resume(progress, digest) as session:
        session.append([content])
        uploads.commit(session, digest)
    assert world.spent() == {"PutObject": 2}
    assert stored(world, digest) == content


@pytest.mark.parametrize("nodes", [(0, 0, 0), (2, 1, 0)], ids=["one", "three"])
def test_a_large_blob_costs_four_and_its_parts_and_copies(
    world: World, nodes: tuple[int, int, int]
) -> None:
    content = os.urandom(3 * CHUNK + 1000)
    digest = patch_and_put(world, content, nodes)
    spent = world.spent()
    parts = spent.pop("UploadPart")
    copies = spent.pop("CopyObject", 0) + spent.pop("UploadPartCopy", 0)
    copied_in_parts = 2 if copies > 1 else 0  # to create and complete what parts are copied to
    assert parts == 4
    assert copies in (3, 4)  # the last may take the rest
    assert spent.total() - copied_in_parts <= 4, spent
    assert stored(world, digest) == content


def test_a_large_blob_whose_digest_comes_first_is_not_copied(world: World) -> None:
    content = os.urandom(3 * CHUNK + 1000)
    digest = Digest.of(content)
    uploads = world.repository().uploads
    with uploads.resume(uploads.start(), digest) as session:
        session.append([content])
        uploads.commit(session, digest)
    spent = world.spent()
    assert spent.pop("UploadPart") == 4
    assert spent == {"CreateMultipartUpload": 1, "CompleteMultipartUpload": 1, "PutObject": 1}
    assert stored(world, digest) == content


def test_wrong_content_never_reaches_its_name(world: World, rgw: S3Store) -> None:
    for size in (1000, 2 * CHUNK):
        content, digest = os.urandom(size), Digest.of(b"something else")
        uploads = world.repository().uploads
        with uploads.resume(uploads.start(), digest) as session:
            session.append([content])
            with pytest.raises(DigestInvalid):
                uploads.commit(session, digest)
        assert not world.repository().blobs.has(digest)
    for driver in world.drivers:
        driver.close()
    assert rgw.unfinished(world.drivers[0]._bucket.name) == []


def test_chunks_on_other_nodes_are_verified_without_reading_them_again(world: World) -> None:
    content = os.urandom(20_000)
    digest = Digest.of(content)
    progress = world.repository(0).uploads.start()
    for node, start in ((1, 0), (2, 7000), (0, 14_000)):
        world.spent()
        with world.repository(node).uploads.resume(progress) as session:
            session.append([content[start : start + 7000]])
            progress = session.checkpoint()
        assert set(world.spent()) == {"ListObjectsV2", "PutObject"}
    assert world.repository(1).uploads.status(progress.upload_id).offset == len(content)
    world.spent()
    uploads = world.repository(1).uploads
    with uploads.resume(progress, digest) as session:
        assert session.verify(digest) == digest
        assert world.spent() == {}
        uploads.commit(session, digest)
    assert stored(world, digest) == content


def test_an_upload_of_which_only_the_id_is_known_goes_on(world: World) -> None:
    content = os.urandom(9000)
    digest = Digest.of(content)
    first = world.repository(0).uploads
    with first.resume(first.start()) as session:
        session.append([content[:4000]])
        known = session.checkpoint().upload_id
    other = world.repository(1).uploads
    with other.resume(other.status(known), digest) as session:
        session.append([content[4000:]])
        other.commit(session, digest)
    assert stored(world, digest, 2) == content


def test_a_chunk_that_is_sent_again_is_refused(world: World) -> None:
    old = world.repository(0).uploads.start()
    with world.repository(0).uploads.resume(old) as session:
        session.append([b"first"])
        new = session.checkpoint()
    for node in (0, 1):
        with pytest.raises(RangeInvalid) as caught:
            world.repository(node).uploads.resume(old)
        assert caught.value.offset == 5
    with world.repository(1).uploads.resume(new) as session:
        session.append([b"second"])
        session.checkpoint()
    with pytest.raises(RangeInvalid) as caught:
        world.repository(2).uploads.resume(new)
    assert caught.value.offset == 11


def test_what_was_cancelled_or_finished_is_unknown(world: World) -> None:
    uploads = world.repository(0).uploads
    progress = uploads.start()
    with uploads.resume(progress) as session:
        session.append([b"x"])
        progress = session.checkpoint()
    uploads.cancel(progress.upload_id)
    for node in (0, 1):
        with pytest.raises(UploadUnknown):
            world.repository(node).uploads.resume(progress)
        with pytest.raises(UploadUnknown):
            world.repository(node).uploads.status(progress.upload_id, begun=True)
    empty = uploads.start()
    assert world.repository(1).uploads.status(empty.upload_id, begun=True).offset == 0
    uploads.cancel(empty.upload_id)
    with pytest.raises(UploadUnknown):
        world.repository(1).uploads.status(empty.upload_id, begun=True)


def test_pulls_of_what_was_just_pulled_cost_nothing(world: World) -> None:
    digest = patch_and_put(world, b"layer")
    world.spent()
    lookups = world.stores[1].lookups(NAME)
    assert lookups.blobs.stat(digest).size == 5
    assert world.spent() == {"GetObject": 1, "HeadObject": 1}
    immediate = world.stores[1].immediately(NAME)
    assert immediate is not None
    assert immediate.blobs.stat(digest).size == 5
    assert world.stores[1].driver.presign(layout.blob(digest), lifetime=60)
    assert world.spent() == {}


def test_pulls_of_many_layers_of_a_repository_cost_one_list_in_their_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_links, "PATIENCE", 60.0)
    clock = Clock()
    there = world.drivers[0]
    here = RememberingDriver(world.drivers[1], Memory(Staleness(), clock)).lookups()
    keys = [layout.layer(NAME, Digest.of(b"%d" % number)) for number in range(30)]
    for key in keys:
        there.write(key, f"sha256:{key.split('/')[-2]}".encode())
    world.spent()
    for expected in (WORTH - 1, 1, 1):
        for key in keys:
            assert here.read(key, length=256) == there.read(key)
        counts = world.spent()
        assert counts == {"GetObject": len(keys) + expected, "ListObjectsV2": 1}
        clock.now += 30
    there.delete(keys[0])
    there.write(keys[1], b"")
    with pytest.raises(ObjectNotFound):
        here.read(keys[0], length=256)
    assert here.read(keys[1], length=256) == b""


@pytest.mark.parametrize("fault", [Answer(403, "AccessDenied"), Answer(501, "NotImplemented")])
def test_a_store_that_lists_nothing_is_asked_for_each_layer(world: World, fault: Answer) -> None:
    here = RememberingDriver(world.drivers[0], Memory(Staleness(), Clock())).lookups()
    keys = [layout.layer(NAME, Digest.of(b"%d" % number)) for number in range(30)]
    for key in keys:
        world.drivers[1].write(key, b"sha256:x")
    world.proxy.inject(fault, operation="ListObjectsV2", times=None)
    world.spent()
    for key in keys:
        assert here.read(key, length=256) == b"sha256:x"
    assert world.spent() == {"GetObject": len(keys), "ListObjectsV2": 1}


def test_a_manifest_by_tag_costs_one_when_it_was_read_before(world: World) -> None:
    world.repository().manifests.put(MANIFEST, INDEX, Tag("1"))
    lookups = world.stores[1].lookups(NAME)
    lookups.manifests.get(Tag("1"))
    world.spent()
    assert lookups.manifests.get(Tag("1")).content == MANIFEST
    assert world.spent() == {"GetObject": 1}


def test_a_tag_that_moved_or_went_on_another_node_is_seen_at_once(world: World) -> None:
    other = MANIFEST.replace(b"[]", b"[ ]")
    here, there = world.repository(0), world.stores[1].lookups(NAME)
    here.manifests.put(MANIFEST, INDEX, Tag("1"))
    assert there.manifests.get(Tag("1")).content == MANIFEST
    here.manifests.put(other, INDEX, Tag("1"))
    assert there.manifests.get(Tag("1")).content == other
    here.tags.delete(Tag("1"))
    assert here.list_tags() == ([], False)
    with pytest.raises(Exception, match="no tag"):
        there.manifests.get(Tag("1"))
