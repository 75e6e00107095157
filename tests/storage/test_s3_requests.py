"""How many requests each operation of the driver `s3` costs; they are what users wait and pay for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from storage.driver import ANYTHING
from storage.driver_errors import Conflict, ObjectNotFound, Unavailable
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from tests.storage.driver_contract import content, names
from tests.support.s3 import S3Store
from tests.support.s3proxy import Answer, S3Proxy

MEBIBYTE = 1024 * 1024
CHUNK = 8 * MEBIBYTE


@pytest.fixture
def driver(proxy: S3Proxy, bucket: str) -> Iterator[S3Driver]:
    driver = S3Driver(
        S3Settings(
            **proxy.store.parameters(bucket),
            chunksize=CHUNK,
            uploadmemory=8 * CHUNK,  # so little that no parts are larger than the others
            multipartcopychunksize=CHUNK,
            multipartcopythresholdsize=CHUNK,
        )
    )
    yield driver
    driver.close()


def counted(proxy: S3Proxy) -> dict[str, int]:
    """Since the last time."""
    counts = proxy.counts()
    proxy.forget()
    return counts


def test_making_a_driver_costs_nothing(driver: S3Driver, proxy: S3Proxy) -> None:
    driver.presign("key", lifetime=60)
    driver.close()
    assert counted(proxy) == {}


def test_simple_operations(driver: S3Driver, proxy: S3Proxy) -> None:
    driver.write("a/key", b"data")
    assert counted(proxy) == {"PutObject": 1}
    driver.stat("a/key")
    assert counted(proxy) == {"HeadObject": 1}
    driver.read("a/key")
    assert counted(proxy) == {"GetObject": 1}
    driver.read("a/key", offset=1, length=2)
    assert counted(proxy) == {"GetObject": 1}
    with pytest.raises(ObjectNotFound):
        driver.read("absent")
    assert counted(proxy) == {"GetObject": 1}
    driver.delete("a/key")
    assert counted(proxy) == {"HeadObject": 1, "DeleteObject": 1}
    driver.check()
    assert counted(proxy) == {"PutObject": 1, "GetObject": 1, "DeleteObject": 1}


def test_a_miss_asks_for_the_bucket_once_a_minute(driver: S3Driver, proxy: S3Proxy) -> None:
    for _ in range(5):
        with pytest.raises(ObjectNotFound):
            driver.stat("absent")
    assert counted(proxy) == {"HeadObject": 5, "HeadBucket": 1}


@pytest.mark.parametrize(
    ("size", "requests"), [(0, 3), (1, 1), (MEBIBYTE, 1), (MEBIBYTE + 1, 2), (20_000_000, 2)]
)
def test_reading_from_end_to_end(
    driver: S3Driver, proxy: S3Proxy, size: int, requests: int
) -> None:
    data = content(size)
    driver.write("blob", data)
    proxy.forget()
    reader = driver.open("blob")
    found = bytearray()
    while part := reader.read_at(len(found), 300_000):
        found += part
    assert found == data
    reader.close()
    assert sum(counted(proxy).values()) <= requests


def test_reading_here_and_there(driver: S3Driver, proxy: S3Proxy) -> None:
    data = content(10_000_000)
    driver.write("blob", data)
    proxy.forget()
    reader = driver.open("blob")
    assert reader.read_at(9_000_000, 100) == data[9_000_000:9_000_100]
    assert reader.read_at(5_000_000, 2_000_000) == data[5_000_000:7_000_000]
    assert reader.read_at(1_000_000, 100_000) == data[1_000_000:1_100_000]
    assert counted(proxy) == {"GetObject": 4}
    for position in range(1_100_000, 10_000_000, 500_000):
        assert reader.read_at(position, 500_000) == data[position : position + 500_000]
    assert counted(proxy) == {"GetObject": 1}
    assert reader.read_at(10, 500_000) == data[10:500_010]
    assert counted(proxy) == {}
    reader.close()


def test_swapping(driver: S3Driver, proxy: S3Proxy) -> None:
    driver.swap("key", b"1", expected=ANYTHING)
    assert counted(proxy) == {"PutObject": 1}
    driver.swap("created", b"1", expected=None)
    assert counted(proxy) == {"GetObject": 1, "PutObject": 1}
    with pytest.raises(Conflict):
        driver.swap("key", b"2", expected=b"0")
    assert counted(proxy) == {"GetObject": 1}
    driver.swap("key", b"2", expected=b"1")  # finds out how the store wants its ETag
    proxy.forget()
    driver.swap("key", b"3", expected=b"2")
    assert counted(proxy) == {"GetObject": 1, "PutObject": 1}


def test_a_push_in_one_patch(driver: S3Driver, proxy: S3Proxy) -> None:
    with driver.writer("u/data", create=True) as writer:
        assert counted(proxy) == {"ListObjectsV2": 1}
        writer.append([b"x" * 1000] * 100)
        assert counted(proxy) == {}
        writer.sync()
        writer.sync()
        assert counted(proxy) == {"PutObject": 1}
        state = writer.state
    with driver.writer("u/data", create=False, state=state, final="blob") as writer:
        assert writer.size == 100_000
        writer.sync()
        assert counted(proxy) == {}
        writer.publish("blob")
        assert counted(proxy) == {"CopyObject": 1}
    driver.flush()
    assert counted(proxy) == {"DeleteObjects": 1}
    assert driver.read("blob") == b"x" * 100_000


def test_a_push_in_several_patches(driver: S3Driver, proxy: S3Proxy) -> None:
    state = ""
    data = content(5 * MEBIBYTE)
    for number in range(3):
        proxy.forget()
        with driver.writer("u/data", create=number == 0, state=state) as writer:
            assert writer.size == number * len(data)
            writer.append([data])
            writer.sync()
            state = writer.state
        assert counted(proxy) == {"ListObjectsV2": 1, "PutObject": 1}
    with driver.writer("u/data", create=False, state=state, final="blob") as writer:
        writer.append([b"tail"])
        writer.sync()
        writer.publish("blob")
    assert counted(proxy) == {
        "CreateMultipartUpload": 1,
        "UploadPartCopy": 3,
        "UploadPart": 1,
        "CompleteMultipartUpload": 1,
    }
    assert driver.read("blob") == data * 3 + b"tail"


def test_small_patches_are_put_together_here(driver: S3Driver, proxy: S3Proxy) -> None:
    state = ""
    for number in range(3):
        with driver.writer("u/data", create=number == 0, state=state) as writer:
            writer.append([b"%d" % number * 1000])
            writer.sync()
            state = writer.state
    proxy.forget()
    with driver.writer("u/data", create=False, state=state, final="blob") as writer:
        writer.publish("blob")
    assert counted(proxy) == {"GetObject": 3, "PutObject": 1}
    assert driver.read("blob") == b"0" * 1000 + b"1" * 1000 + b"2" * 1000


@pytest.mark.parametrize("size", [0, 1, CHUNK])
def test_a_push_that_names_its_digest_first(driver: S3Driver, proxy: S3Proxy, size: int) -> None:
    data = content(size)
    with driver.writer("u/data", create=True, final="blob") as writer:
        writer.append([data])
        writer.sync()
        writer.publish("blob")
    assert counted(proxy) == {"PutObject": 1}
    driver.flush()
    assert counted(proxy) == {}
    assert driver.read("blob") == data


@pytest.mark.parametrize(("size", "parts"), [(CHUNK + 1, 2), (5 * CHUNK, 5)])
def test_a_large_push_that_names_its_digest_first(
    driver: S3Driver, proxy: S3Proxy, size: int, parts: int
) -> None:
    data = content(size)
    with driver.writer("u/data", create=True, final="blob") as writer:
        for start in range(0, size, MEBIBYTE):
            writer.append([data[start : start + MEBIBYTE]])
        writer.sync()
        assert names(driver, "") == []
        writer.publish("blob")
    counts = counted(proxy)
    counts.pop("ListObjectsV2")
    assert counts == {
        "CreateMultipartUpload": 1,
        "UploadPart": parts,
        "CompleteMultipartUpload": 1,
    }
    assert driver.read("blob") == data


def test_a_large_patch_is_copied_in_parts(driver: S3Driver, proxy: S3Proxy) -> None:
    data = content(3 * CHUNK + 5)
    with driver.writer("u/data", create=True) as writer:
        writer.append([data])
        writer.sync()
        state = writer.state
    assert counted(proxy) == {
        "ListObjectsV2": 1,
        "CreateMultipartUpload": 1,
        "UploadPart": 4,
        "CompleteMultipartUpload": 1,
    }
    with driver.writer("u/data", create=False, state=state, final="blob") as writer:
        writer.publish("blob")
    assert counted(proxy) == {
        "CreateMultipartUpload": 1,
        "UploadPartCopy": 3,
        "CompleteMultipartUpload": 1,
    }
    assert driver.read("blob") == data


def test_a_store_that_copies_by_reference_copies_in_one_request(
    driver: S3Driver, proxy: S3Proxy
) -> None:
    """That it does so is learnt from a copy that is small enough for every store."""
    for size in (CHUNK, 3 * CHUNK):
        data = content(size)
        with driver.writer("u/data", create=True) as writer:
            writer.append([data])
            writer.sync()
            state = writer.state
        proxy.forget()
        if size > CHUNK:
            assert driver._workshop.abilities.copies_by_reference is not None
            driver._workshop.abilities.copied(
                CHUNK, 0.001
            )  # as on a machine that does nothing else
        with driver.writer("u/data", create=False, state=state, final=f"b/{size}") as writer:
            writer.publish(f"b/{size}")
        assert counted(proxy) == {"CopyObject": 1}
        assert driver.read(f"b/{size}") == data
        driver.flush()


def test_what_a_copy_tells_of_how_copies_are_made(proxy: S3Proxy, driver: S3Driver) -> None:
    abilities = driver._workshop.abilities
    for size, seconds, expected in [
        (CHUNK, 0.1, False),
        (1000, 0.000001, False),  # too small to tell
        (CHUNK, 0.001, True),
        (CHUNK, 0.5, True),  # busy
        (100 * CHUNK, 5.1, False),
    ]:
        abilities.copied(size, seconds)
        assert abilities.copies_by_reference == expected
    abilities.copied(CHUNK, 0.001)
    proxy.inject(Answer(503, "SlowDown"), operation="CopyObject", times=None)
    with driver.writer("u/data", create=True) as writer:
        writer.append([content(3 * CHUNK)])
        writer.sync()
        with pytest.raises(Unavailable):
            writer.publish("blob")
        assert not abilities.copies_by_reference
        proxy.forget()
        writer.publish("blob")
    assert counted(proxy)["UploadPartCopy"] == 3


@pytest.mark.parametrize(("size", "parts"), [(2 * CHUNK, 0), (2 * CHUNK + 1, 2), (8 * CHUNK, 4)])
@pytest.mark.parametrize("final", ["", "blob"])
def test_parts_are_twice_as_large_where_memory_is_plenty(
    proxy: S3Proxy, bucket: str, size: int, parts: int, final: str
) -> None:
    settings = S3Settings(
        **proxy.store.parameters(bucket), chunksize=CHUNK, uploadmemory=16 * CHUNK
    )
    driver = S3Driver(settings)
    data = content(size)
    with driver.writer("u/data", create=True, final=final) as writer:
        for start in range(0, size, MEBIBYTE):
            writer.append([data[start : start + MEBIBYTE]])
        writer.publish("blob")
    assert counted(proxy).get("UploadPart", 0) == parts
    assert driver.read("blob") == data
    assert driver._workshop.budget.taken == 0
    assert driver._workshop.budget.widen(CHUNK)  # one may be, and that one is through
    driver.close()


def test_an_abandoned_push_leaves_nothing(
    driver: S3Driver, proxy: S3Proxy, rgw: S3Store, bucket: str
) -> None:
    with driver.writer("u/data", create=True, final="blob") as writer:
        writer.append([content(CHUNK + 1)])
        writer.sync()
    assert rgw.keys(bucket) == {}
    assert rgw.unfinished(bucket) == []
    with driver.writer("u/data", create=True, final="blob") as writer:
        writer.append([b"small"])
        writer.sync()
    assert rgw.keys(bucket) == {}


def test_deletions_are_gathered(driver: S3Driver, proxy: S3Proxy) -> None:
    for number in range(20):
        with driver.writer(f"u/{number}/data", create=True) as writer:
            writer.append([b"x"])
            writer.sync()
            writer.publish("blob")
    proxy.forget()
    driver.flush()
    assert counted(proxy) == {"DeleteObjects": 1}


def test_listings_are_as_many_requests_as_pages(driver: S3Driver, proxy: S3Proxy) -> None:
    for number in range(20):
        driver.write(f"t/{number:02}/link", b"")
    proxy.forget()
    assert len(names(driver, "t", after="05")) == 14
    assert counted(proxy) == {"ListObjectsV2": 1}
    assert len([*driver.walk("t")]) == 20
    assert counted(proxy) == {"ListObjectsV2": 1}
    driver.delete_tree("t")
    assert Counter(counted(proxy)) <= Counter(
        ListMultipartUploads=1, ListObjectsV2=1, DeleteObjects=1
    )
    driver.delete_tree("t")
    assert counted(proxy) == {"ListMultipartUploads": 1, "ListObjectsV2": 1}
