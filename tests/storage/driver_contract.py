"""The promises of `storage/driver.py`, as cases that every driver passes.

A driver's test subclasses `DriverContract` and supplies `driver`, on storage that holds nothing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from storage.driver import ANYTHING, Child, Driver, Reader
from storage.driver_errors import (
    Busy,
    Conflict,
    DriverError,
    InvalidKey,
    ObjectNotFound,
    Unavailable,
    Void,
    WouldBlock,
)

T = TypeVar("T")

INVALID_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/..",
    "../a",
    "a/./b",
    "a b",
    "a\0b",
    "a\n",
    "a:b",
    "ä",
    "a/٣",
    "%2e%2e",
    "a\\b",
]

ODD_KEYS = ["...", ".hidden", "-", "_", "a/...", "A/a", "a" * 255, "x/" * 40 + "y"]

SIZES = [0, 1, 1024 * 1024 - 1, 5_000_003]

USES: dict[str, Callable[[Driver, str], object]] = {
    "stat": lambda driver, key: driver.stat(key),
    "read": lambda driver, key: driver.read(key),
    "open": lambda driver, key: driver.open(key),
    "writer": lambda driver, key: driver.writer(key, create=False),
    "stat_growing": lambda driver, key: driver.stat_growing(key),
    "open_growing": lambda driver, key: driver.open_growing(key),
    "delete": lambda driver, key: driver.delete(key),
}
"""Each raises ObjectNotFound where there is nothing."""

OTHER_USES: dict[str, Callable[[Driver, str], object]] = {
    "read a range": lambda driver, key: driver.read(key, offset=1, length=1),
    "write": lambda driver, key: driver.write(key, b"x"),
    "swap": lambda driver, key: driver.swap(key, b"x", expected=ANYTHING),
    "swap away": lambda driver, key: driver.swap(key, None, expected=b"x"),
    "writer, create": lambda driver, key: driver.writer(key, create=True),
    "delete_many": lambda driver, key: driver.delete_many(["sound", key]),
    "delete_tree": lambda driver, key: driver.delete_tree(key),
    "prune": lambda driver, key: driver.prune(key),
    "presign": lambda driver, key: driver.presign(key, lifetime=60),
    "local_path": lambda driver, key: driver.local_path(key),
}


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def grow(driver: Driver, key: str, *chunks: bytes) -> None:
    """A growing object, synced, without a writer."""
    with driver.writer(key, create=True) as writer:
        writer.append(chunks)
        writer.sync()


def publish(driver: Driver, staging: str, key: str) -> None:
    with driver.writer(staging, create=False) as writer:
        writer.publish(key)


def store_time(driver: Driver) -> float:
    driver.write("clock", b"")
    return driver.stat("clock").modified


def names(driver: Driver, prefix: str, *, after: str = "") -> list[str]:
    return [child.name for child in driver.list(prefix, after=after)]


def keys_below(driver: Driver, prefix: str) -> list[str]:
    return sorted(info.key for info in driver.walk(prefix))


def at_once(count: int, task: Callable[[int], T]) -> list[T]:
    """`task(0)` to `task(count - 1)` in as many threads, begun together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(60)
        return task(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count), timeout=120))


@contextlib.contextmanager
def opened(driver: Driver, key: str) -> Iterator[Reader]:
    reader = driver.open(key)
    try:
        yield reader
    finally:
        reader.close()


class DriverContract:
    @pytest.fixture
    def driver(self) -> Driver:
        raise NotImplementedError("a subclass supplies the driver")

    def test_name_is_that_of_the_configuration(self, driver: Driver) -> None:
        assert driver.name in {"filesystem", "s3", "inmemory"}

    @pytest.mark.parametrize("size", SIZES)
    def test_what_is_written_is_read(self, driver: Driver, size: int) -> None:
        data = content(size)
        before = time.time()
        driver.write("a/b/data", data)
        assert driver.read("a/b/data") == data
        info = driver.stat("a/b/data")
        assert (info.key, info.size) == ("a/b/data", size)
        assert before - 5 < info.modified < time.time() + 5
        with opened(driver, "a/b/data") as reader:
            assert reader.info == info
            assert reader.read_at(0, size + 1) == data

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_any_valid_key(self, driver: Driver, key: str) -> None:
        driver.write(key, key.encode())
        assert driver.read(key) == key.encode()
        assert keys_below(driver, "") == [key]
        driver.delete(key)
        with pytest.raises(ObjectNotFound):
            driver.stat(key)

    @pytest.mark.parametrize(
        ("offset", "length"),
        [
            (0, 0),
            (0, 1),
            (0, 10_000),
            (1, 9_998),
            (4_096, 4_096),
            (9_999, 1),
            (9_999, 2),
            (5_000, 1_000_000),
            (10_000, 1),
            (10_001, 1),
            (10**18, 10),
            (2**63, 10),
            (2**70, 2**70),
            (0, None),
            (9_999, None),
            (10_000, None),
            (2**64, None),
        ],
    )
    def test_ranges(self, driver: Driver, offset: int, length: int | None) -> None:
        data = content(10_000)
        driver.write("object", data)
        expected = data[offset:] if length is None else data[offset : offset + length]
        assert driver.read("object", offset=offset, length=length) == expected
        if length is not None:
            with opened(driver, "object") as reader:
                assert reader.read_at(offset, length) == expected

    def test_ranges_of_an_empty_object(self, driver: Driver) -> None:
        driver.write("empty", b"")
        assert driver.read("empty", offset=0, length=10) == b""
        assert driver.read("empty", offset=1) == b""

    def test_overwrite(self, driver: Driver) -> None:
        for data in (b"first", b"", b"a much longer value", b"short"):
            driver.write("key", data)
            assert driver.read("key") == data
            assert driver.stat("key").size == len(data)
        assert keys_below(driver, "") == ["key"]

    @pytest.mark.parametrize("use", USES)
    @pytest.mark.parametrize("key", ["absent", "a/absent", "a/b/absent/below", "a"])
    def test_missing(self, driver: Driver, use: str, key: str) -> None:
        """`a` has objects below it and is none itself."""
        driver.write("a/b/object", b"x")
        with pytest.raises(ObjectNotFound):
            USES[use](driver, key)

    @pytest.mark.parametrize("use", USES | OTHER_USES)
    @pytest.mark.parametrize("key", INVALID_KEYS)
    def test_invalid_keys(self, driver: Driver, use: str, key: str) -> None:
        driver.write("a/b", b"x")
        with pytest.raises(InvalidKey):
            (USES | OTHER_USES)[use](driver, key)
        assert driver.read("a/b") == b"x"

    @pytest.mark.parametrize("key", [key for key in INVALID_KEYS if key])
    def test_invalid_prefixes(self, driver: Driver, key: str) -> None:
        with pytest.raises(InvalidKey):
            driver.list(key)
        with pytest.raises(InvalidKey):
            driver.walk(key)

    def test_readers_see_the_old_bytes_or_the_new(self, driver: Driver) -> None:
        versions = [bytes([number]) * (200_000 + number) for number in range(20)]
        driver.write("key", versions[0])
        done = threading.Event()

        def write() -> None:
            try:
                for version in versions * 3:
                    driver.write("key", version)
            finally:
                done.set()

        def read() -> int:
            seen = 0
            while not done.is_set():
                data = driver.read("key")
                assert data == versions[data[0]]
                seen += 1
            return seen

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            pool.submit(write).result(60)
            assert all(reader.result(60) > 0 for reader in readers)

    def test_an_open_reader_survives_deletion_and_replacement(self, driver: Driver) -> None:
        data = content(300_000)
        driver.write("a/replaced", data)
        driver.write("a/deleted", data)
        driver.write("a/tree/object", data)
        with (
            opened(driver, "a/replaced") as replaced,
            opened(driver, "a/deleted") as deleted,
            opened(driver, "a/tree/object") as below,
        ):
            driver.write("a/replaced", b"new")
            driver.delete("a/deleted")
            driver.delete_tree("a/tree")
            for reader in (replaced, deleted, below):
                assert reader.info.size == len(data)
                assert reader.read_at(0, len(data)) == data
                assert reader.read_at(299_990, 100) == data[299_990:]

    def test_many_threads_share_a_reader(self, driver: Driver) -> None:
        data = content(1_000_000)
        driver.write("key", data)
        with opened(driver, "key") as reader:
            parts = at_once(10, lambda number: reader.read_at(number * 100_000, 100_000))
        assert b"".join(parts) == data

    def test_a_reader_closes_once_and_for_all(self, driver: Driver) -> None:
        driver.write("key", b"data")
        reader = driver.open("key")
        reader.close()
        reader.close()
        with pytest.raises(DriverError):
            reader.read_at(0, 4)

    def test_a_descriptor_reads_the_object(self, driver: Driver) -> None:
        driver.write("key", b"0123456789")
        with opened(driver, "key") as reader:
            descriptor = reader.fileno()
            if descriptor is not None:
                with open(descriptor, "rb", closefd=False) as file:
                    file.seek(3)
                    assert file.read(4) == b"3456"
            assert reader.read_at(0, 3) == b"012"

    def test_swap_creates_replaces_and_deletes(self, driver: Driver) -> None:
        driver.swap("a/key", b"1", expected=None)
        assert driver.read("a/key") == b"1"
        driver.swap("a/key", b"2", expected=b"1")
        assert driver.read("a/key") == b"2"
        driver.swap("a/key", b"3", expected=ANYTHING)
        assert driver.read("a/key") == b"3"
        driver.swap("a/key", None, expected=b"3")
        with pytest.raises(ObjectNotFound):
            driver.read("a/key")
        driver.swap("a/key", b"4", expected=ANYTHING)
        driver.swap("a/key", None, expected=ANYTHING)
        driver.swap("a/key", None, expected=ANYTHING)
        driver.swap("a/key", None, expected=None)
        with pytest.raises(ObjectNotFound):
            driver.stat("a/key")

    @pytest.mark.parametrize(
        ("held", "expected"), [(None, b"x"), (b"x", None), (b"x", b"y"), (b"x", b""), (b"", None)]
    )
    @pytest.mark.parametrize("data", [b"new", None])
    def test_swap_refused_changes_nothing(
        self, driver: Driver, held: bytes | None, expected: bytes | None, data: bytes | None
    ) -> None:
        if held is not None:
            driver.write("a/key", held)
        with pytest.raises(Conflict):
            driver.swap("a/key", data, expected=expected)
        if held is None:
            assert names(driver, "a") == []
        else:
            assert driver.read("a/key") == held

    def test_swap_creation_has_one_winner(self, driver: Driver) -> None:
        def create(key: str, number: int) -> bytes | None:
            try:
                driver.swap(key, b"%d" % number, expected=None)
            except Conflict:
                return None
            return b"%d" % number

        for round_ in range(5):
            key = f"race/{round_}"
            outcomes = at_once(12, functools.partial(create, key))
            (winner,) = [outcome for outcome in outcomes if outcome is not None]
            assert driver.read(key) == winner

    def test_swaps_take_effect_one_after_the_other(self, driver: Driver) -> None:
        """Each thread adds one, ten times; nothing is lost."""
        driver.write("counter", b"0")

        def add(_: int) -> None:
            done = 0
            while done < 10:
                held = driver.read("counter")
                with contextlib.suppress(Conflict):
                    driver.swap("counter", b"%d" % (int(held) + 1), expected=held)
                    done += 1

        at_once(6, add)
        assert driver.read("counter") == b"60"

    def test_swap_takes_or_leaves_it_when_deletions_race(self, driver: Driver) -> None:
        def take(_: int) -> bool:
            try:
                driver.swap("key", None, expected=b"x")
            except Conflict:
                return False
            return True

        for _ in range(5):
            driver.write("key", b"x")
            assert sum(at_once(8, take)) == 1

    @pytest.mark.parametrize("size", SIZES)
    def test_a_growing_object_is_published(self, driver: Driver, size: int) -> None:
        data = content(size)
        with driver.writer("uploads/1/data", create=True) as writer:
            assert writer.size == 0
            for start in range(0, size, 700_001):
                writer.append([data[start : start + 700_001]])
            assert writer.size == size
            writer.sync()
            writer.publish("blobs/data")
        assert driver.read("blobs/data") == data
        assert driver.stat("blobs/data").size == size
        with pytest.raises(ObjectNotFound):
            driver.stat_growing("uploads/1/data")
        with pytest.raises(ObjectNotFound):
            driver.writer("uploads/1/data", create=False)
        assert keys_below(driver, "") == ["blobs/data"]

    def test_chunks_are_appended_in_order(self, driver: Driver) -> None:
        chunks = [b"%d," % number for number in range(5_000)]
        with driver.writer("growing", create=True) as writer:
            writer.append([])
            writer.append([b"", b""])
            assert writer.size == 0
            writer.append([b"", *chunks[:1], b"", *chunks[1:], b""])
            assert writer.size == len(b"".join(chunks))
            writer.sync()
            writer.publish("finished")
        assert driver.read("finished") == b"".join(chunks)

    def test_a_writer_is_taken_up_where_it_was_left(self, driver: Driver) -> None:
        parts = [content(size, seed=size) for size in (1, 0, 6_000_000, 17)]
        driver.writer("growing", create=True).close()
        total = 0
        for part in parts:
            with driver.writer("growing", create=False) as writer:
                assert writer.size == total
                writer.append([part])
                writer.sync()
                total += len(part)
                assert writer.size == total
            assert driver.stat_growing("growing").size == total
        reader = driver.open_growing("growing")
        assert reader.read_at(0, total + 1) == b"".join(parts)
        assert reader.read_at(total, 1) == b""
        reader.close()
        publish(driver, "growing", "finished")
        assert driver.read("finished") == b"".join(parts)

    def test_the_size_is_known_while_a_writer_is_active(self, driver: Driver) -> None:
        with driver.writer("growing", create=True) as writer:
            assert driver.stat_growing("growing").size == 0
            for total in (1_000, 2_000, 3_000):
                writer.append([b"x" * 1_000])
                writer.sync()
                assert driver.stat_growing("growing").size == total
                assert driver.stat_growing("growing").key == "growing"

    def test_one_writer_at_a_time(self, driver: Driver) -> None:
        with driver.writer("growing", create=True) as writer:
            with pytest.raises(Busy):
                driver.writer("growing", create=False)
            writer.append([b"kept"])
            writer.sync()
        with driver.writer("growing", create=False) as writer:
            assert writer.size == 4
            with pytest.raises(Busy):
                driver.writer("growing", create=False)
        driver.writer("growing", create=False).close()

    def test_writers_that_race(self, driver: Driver) -> None:
        """Whoever gets in appends a whole record; no record is lost or torn."""
        driver.writer("growing", create=True).close()

        def append(number: int) -> int:
            done = 0
            deadline = time.monotonic() + 60
            while done < 5 and time.monotonic() < deadline:
                with contextlib.suppress(Busy), driver.writer("growing", create=False) as writer:
                    for _ in range(10):
                        writer.append([bytes([number]) * 100])
                    done += 1
            return done

        assert at_once(4, append) == [5] * 4
        publish(driver, "growing", "finished")
        data = driver.read("finished")
        records = [data[start : start + 1_000] for start in range(0, len(data), 1_000)]
        assert len(records) == 20
        assert all(len(set(record)) == 1 for record in records)

    def test_creation_of_what_exists_is_a_conflict(self, driver: Driver) -> None:
        driver.write("finished", b"x")
        grow(driver, "growing", b"x")
        for key in ("finished", "growing"):
            with pytest.raises(Conflict):
                driver.writer(key, create=True)
        with driver.writer("growing", create=False), pytest.raises((Conflict, Busy)):
            driver.writer("growing", create=True)
        assert driver.stat_growing("growing").size == 1

    def test_creation_has_one_winner(self, driver: Driver) -> None:
        def create(_: int) -> bool:
            try:
                writer = driver.writer("a/b/growing", create=True)
            except (Conflict, Busy):
                return False
            writer.append([b"x"])
            writer.close()
            return True

        assert sum(at_once(10, create)) == 1
        assert driver.stat_growing("a/b/growing").size == 1

    def test_a_closed_writer_is_of_no_use(self, driver: Driver) -> None:
        writer = driver.writer("growing", create=True)
        writer.close()
        writer.close()
        for use in (
            functools.partial(writer.append, [b"x"]),
            writer.sync,
            functools.partial(writer.publish, "finished"),
        ):
            with pytest.raises(Unavailable):
                use()
        assert driver.stat_growing("growing").size == 0
        with pytest.raises(ObjectNotFound):
            driver.stat("finished")

    def test_an_abandoned_object_is_not_published(self, driver: Driver) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            driver.writer("staging/data", create=True) as writer,
        ):
            writer.append([b"x" * 100_000])
            raise ZeroDivisionError
        assert names(driver, "finished") == []
        with driver.writer("staging/data", create=False) as writer:
            assert writer.size == 100_000
        driver.delete_tree("staging")
        with pytest.raises(ObjectNotFound):
            driver.stat_growing("staging/data")
        assert keys_below(driver, "") == []

    def test_publication_keeps_an_equal_object(self, driver: Driver) -> None:
        data = content(100_000)
        driver.write("blob", data)
        with opened(driver, "blob") as reader:
            grow(driver, "staging", data)
            publish(driver, "staging", "blob")
            assert reader.read_at(0, 100_000) == data
        assert driver.read("blob") == data
        with pytest.raises(ObjectNotFound):
            driver.stat_growing("staging")

    @pytest.mark.parametrize("damaged", [b"", b"torn", b"0123456789 and more"])
    def test_publication_replaces_a_damaged_object(self, driver: Driver, damaged: bytes) -> None:
        driver.write("blob", damaged)
        grow(driver, "staging", b"0123456789")
        publish(driver, "staging", "blob")
        assert driver.read("blob") == b"0123456789"
        with pytest.raises(ObjectNotFound):
            driver.stat_growing("staging")

    def test_publication_dates_the_object(self, driver: Driver) -> None:
        grow(driver, "staging", b"data")
        grown = driver.stat_growing("staging").modified
        time.sleep(0.05)
        publish(driver, "staging", "blob")
        assert driver.stat("blob").modified >= grown + 0.04

    @pytest.mark.parametrize("key", INVALID_KEYS)
    def test_publication_under_an_invalid_key(self, driver: Driver, key: str) -> None:
        grow(driver, "staging", b"data")
        with driver.writer("staging", create=False) as writer, pytest.raises(InvalidKey):
            writer.publish(key)
        publish(driver, "staging", "blob")
        assert driver.read("blob") == b"data"

    def test_publication_of_what_was_deleted(self, driver: Driver) -> None:
        with driver.writer("uploads/1/data", create=True) as writer:
            writer.append([b"data"])
            writer.sync()
            driver.delete_tree("uploads/1")
            with pytest.raises(ObjectNotFound):
                writer.publish("blob")
        with pytest.raises(ObjectNotFound):
            driver.stat("blob")

    def test_publication_ends_the_writer(self, driver: Driver) -> None:
        with driver.writer("staging", create=True) as writer:
            writer.append([b"data"])
            writer.sync()
            writer.publish("blob")
            with pytest.raises(DriverError):
                writer.append([b" and more"])
        driver.writer("staging", create=True).close()
        assert driver.read("blob") == b"data"

    def test_two_publish_one_key(self, driver: Driver) -> None:
        data = content(400_000)

        def publish_part(staging: str, key: str, number: int) -> None:
            publish(driver, f"{staging}/{number}", key)

        for round_ in range(5):
            for number in range(2):
                grow(driver, f"staging/{round_}/{number}", data)
            staging, key = f"staging/{round_}", f"blobs/{round_}/data"
            at_once(2, functools.partial(publish_part, staging, key))
            assert driver.read(f"blobs/{round_}/data") == data
        assert keys_below(driver, "staging") == []

    def test_fifty_publish_one_key_while_it_is_read(self, driver: Driver) -> None:
        data = content(50_000)
        for number in range(50):
            grow(driver, f"staging/{number}/data", data)
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                with contextlib.suppress(ObjectNotFound):
                    assert driver.read("blobs/ab/data") == data

        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(read)
            try:
                at_once(50, lambda n: publish(driver, f"staging/{n}/data", "blobs/ab/data"))
            finally:
                done.set()
            reader.result(60)
        assert driver.read("blobs/ab/data") == data
        assert keys_below(driver, "") == ["blobs/ab/data"]

    def test_nothing_to_list(self, driver: Driver) -> None:
        driver.write("a/object", b"x")
        for prefix in ("absent", "a/absent", "a/object", "a/object/below"):
            assert names(driver, prefix) == []
            assert keys_below(driver, prefix) == []

    def test_an_empty_store_lists_no_objects(self, driver: Driver) -> None:
        assert keys_below(driver, "") == []

    def test_whether_anything_is_below(self, driver: Driver) -> None:
        driver.write("a/object", b"x")
        driver.write("a/below/object", b"x")
        for prefix in ("", "a", "a/below"):
            assert driver.has_children(prefix)
        for prefix in ("absent", "a/absent", "a/object", "a/object/below"):
            assert not driver.has_children(prefix)
        driver.delete_tree("a/below")
        driver.delete("a/object")
        driver.prune("a")
        assert not driver.has_children("a")

    def test_an_edition_is_of_the_names(self, driver: Driver) -> None:
        """Asked at any time: a driver may say nothing, but never the same of other names."""
        seen: dict[object, list[str]] = {}
        for number in range(12):
            driver.write(f"a/{number % 7}/link", b"x")
            if number % 3 == 0:
                driver.delete(f"a/{number % 7}/link")
                driver.prune(f"a/{number % 7}")
            edition = driver.edition("a")
            listed = names(driver, "a")
            if edition is not None:
                assert seen.setdefault(edition, listed) == listed
            time.sleep(0.015 * (number % 4))  # so that some have an edition, and some not yet

    def test_names_that_prefix_each_other(self, driver: Driver) -> None:
        for name in ("1", "10", "1-0", "1.0", "1_0", "2", "1A"):
            driver.write(f"tags/{name}/link", name.encode())
        driver.write("tags2/x", b"x")
        assert [*driver.list("tags")] == [
            Child(name, is_prefix=True) for name in ("1-0", "1.0", "1", "10", "1A", "1_0", "2")
        ]
        assert [*driver.list("tags/1")] == [Child("link", is_prefix=False)]
        assert keys_below(driver, "tags/1") == ["tags/1/link"]
        assert len(keys_below(driver, "tags")) == 7

    def test_objects_and_prefixes_are_listed_together(self, driver: Driver) -> None:
        for key in ("p/b", "p/a/1", "p/a/2", "p/a-b", "p/c/d/e"):
            driver.write(key, b"")
        assert [*driver.list("p")] == [
            Child("a-b", is_prefix=False),
            Child("a", is_prefix=True),
            Child("b", is_prefix=False),
            Child("c", is_prefix=True),
        ]
        assert Child("p", is_prefix=True) in [*driver.list("")]

    def test_list_after(self, driver: Driver) -> None:
        in_order = sorted(["1-0", "1.0", "1", "10", "1A", "a", "a-", "b"], key=lambda n: n + "/")
        for name in in_order:
            driver.write(f"tags/{name}/link", b"")
        assert names(driver, "tags") == in_order
        for position, name in enumerate(in_order):
            assert names(driver, "tags", after=name) == in_order[position + 1 :]
        assert names(driver, "tags", after="0") == in_order
        assert names(driver, "tags", after="1B") == ["a-", "a", "b"]
        assert names(driver, "tags", after="zz") == []
        assert names(driver, "tags", after="not a key\0") == []

    def test_listings_beyond_a_thousand(self, driver: Driver) -> None:
        expected = [f"t{number}" for number in range(1_203)]
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda name: driver.write(f"tags/{name}/link", b"x"), expected):
                pass
        expected.sort(key=lambda name: name + "/")
        assert names(driver, "tags") == expected
        paged: list[str] = []
        while page := [
            *itertools.islice(driver.list("tags", after=paged[-1] if paged else ""), 500)
        ]:
            paged += [child.name for child in page]
        assert paged == expected
        assert len(keys_below(driver, "tags")) == 1_203
        driver.delete_tree("tags")
        assert names(driver, "tags") == []

    def test_walk_finds_every_object_once(self, driver: Driver) -> None:
        sizes = {f"w/{a}/{b}/{c}": a + b + c for a in range(4) for b in range(4) for c in range(4)}
        for key, size in sizes.items():
            driver.write(key, b"x" * size)
        driver.write("other", b"")
        found = [*driver.walk("w")]
        assert len(found) == len(sizes)
        assert {info.key: info.size for info in found} == sizes
        assert all(abs(info.modified - time.time()) < 300 for info in found)
        assert len([*driver.walk("w/1/2")]) == 4
        assert keys_below(driver, "") == sorted([*sizes, "other"])

    def test_walk_begins_after_any_text(self, driver: Driver) -> None:
        keys = ["w/a-b/1", "w/a/1", "w/a/2", "w/a0", "w/b/c/1"]
        for key in keys:
            driver.write(key, b"x")
        for after in ("", "w/a/1", "w/a/~", "w/a/_", "w/b/c/1", "x", "v"):
            found = sorted(info.key for info in driver.walk("w", after=after))
            assert found == [key for key in keys if key > after], after

    def test_walk_passes_over_what_vanishes(self, driver: Driver) -> None:
        keys = {f"w/{number % 10}/{number}" for number in range(50)}
        for key in keys:
            driver.write(key, b"x")
        walk = driver.walk("w")
        first = next(walk).key
        driver.delete_tree("w")
        assert {first} <= {first, *(info.key for info in walk)} <= keys

    def test_leaves_are_the_objects_of_one_name_below_each_child(self, driver: Driver) -> None:
        for key in ("a/1/link", "a/2/other", "a/3/below/link", "a/link", "ab/4/link", "1/link"):
            driver.write(key, b"x")
        driver.write("a/5/link", b"four")
        found = {leaf.name: leaf for leaf in driver.leaves("a", "link")}
        assert {name: leaf.size for name, leaf in found.items()} == {"1": 1, "5": 4}
        assert all(abs(leaf.modified - time.time()) < 300 for leaf in found.values())
        assert not driver.leaves("absent", "link")

    def test_names_are_those_that_are_listed(self, driver: Driver) -> None:
        for key in ("a/1/link", "a/10/link", "a/2", "a/b/c/d", "ab/4/link"):
            driver.write(key, b"x")
        for prefix in ("", "a", "a/b", "absent", "a/2"):
            assert sorted(driver.names(prefix)) == sorted(names(driver, prefix))

    def test_leaves_are_read_of_the_names_that_are_given(self, driver: Driver) -> None:
        for key in ("a/1/b/link", "a/2/b/other", "a/3/b/link/below", "a/4", "a/10/b/link"):
            driver.write(key, key.encode())
        driver.write("a/5/b/link", b"")
        given = ["1", "2", "3", "4", "5", "absent"]
        found = driver.read_leaves("a", given, "b/link", length=5)
        assert found == {"1": b"a/1/b", "5": b""}
        assert driver.read_leaves("a", ["10"], "b/link", length=100) == {"10": b"a/10/b/link"}
        assert driver.read_leaves("a/10", ["b"], "link", length=100) == {"b": b"a/10/b/link"}
        assert not driver.read_leaves("a", [], "b/link", length=100)
        assert not driver.read_leaves("absent", given, "b/link", length=100)
        assert not driver.read_leaves("a/4", given, "b/link", length=100)
        driver.write("a/large/link", b"x" * 10_000)
        assert driver.read_leaves("a", ["large"], "link", length=9_000) == {"large": b"x" * 9_000}
        for invalid in ("..", ".", "", "a b", "/1"):
            with pytest.raises(InvalidKey):
                driver.read_leaves("a", ["1", invalid], "b/link", length=100)

    def test_delete_removes_one_object(self, driver: Driver) -> None:
        for key in ("a/1", "a/10", "a/1-b", "b"):
            driver.write(key, b"x")
        driver.delete("a/1")
        assert keys_below(driver, "") == ["a/1-b", "a/10", "b"]
        with pytest.raises(ObjectNotFound):
            driver.delete("a/1")

    def test_delete_many_passes_over_the_absent(self, driver: Driver) -> None:
        for number in range(30):
            driver.write(f"a/{number % 3}/{number}", b"x")
        driver.delete_many([])
        driver.delete_many(["absent", "a", "a/0/absent"])
        assert len(keys_below(driver, "")) == 30
        driver.delete_many(f"a/{number % 3}/{number}" for number in range(5, 40))
        assert keys_below(driver, "") == ["a/0/0", "a/0/3", "a/1/1", "a/1/4", "a/2/2"]

    def test_delete_tree_touches_only_its_own(self, driver: Driver) -> None:
        for key in ("a/1/x", "a/1/y/z", "a/10/x", "a/1-0/x", "a/1.0", "b/1/x"):
            driver.write(key, b"x")
        grow(driver, "a/1/growing", b"x")
        grow(driver, "a/10/growing", b"x")
        driver.delete_tree("a/1")
        with pytest.raises(ObjectNotFound):
            driver.stat_growing("a/1/growing")
        assert driver.stat_growing("a/10/growing").size == 1
        driver.delete_tree("a/10")
        assert keys_below(driver, "") == ["a/1-0/x", "a/1.0", "b/1/x"]
        assert names(driver, "a") == ["1-0", "1.0"]
        driver.delete_tree("a/1")
        driver.delete_tree("absent/also")

    def test_delete_tree_leaves_an_object_of_that_name(self, driver: Driver) -> None:
        driver.write("a/object", b"x")
        driver.delete_tree("a/object")
        assert driver.read("a/object") == b"x"

    def test_delete_tree_under_a_writer(self, driver: Driver) -> None:
        with driver.writer("uploads/1/data", create=True) as writer:
            writer.append([b"x"])
            driver.delete_tree("uploads/1")
            with pytest.raises(ObjectNotFound):
                driver.stat_growing("uploads/1/data")
        with driver.writer("uploads/1/data", create=True) as writer:
            assert writer.size == 0

    def test_prune_removes_no_object(self, driver: Driver) -> None:
        driver.write("a/1/x/y", b"x")
        driver.write("a/2/z", b"x")
        grow(driver, "a/3/growing", b"x")
        driver.delete("a/1/x/y")
        driver.prune("a")
        driver.prune("absent")
        assert names(driver, "a/1") == []
        assert "1" not in names(driver, "a")
        assert driver.read("a/2/z") == b"x"
        assert driver.stat_growing("a/3/growing").size == 1
        driver.write("a/1/x/y", b"again")
        assert driver.read("a/1/x/y") == b"again"

    def test_writes_win_over_those_who_prune(self, driver: Driver) -> None:
        """A parent may be removed, being empty, while an object is made in it."""
        done = threading.Event()

        def prune() -> None:
            while not done.wait(0.0005):
                driver.prune("p")

        with ThreadPoolExecutor(2) as pool:
            pruners = [pool.submit(prune) for _ in range(2)]
            try:
                for number in range(150):
                    driver.write("p/q/r/key", b"%d" % number)
                    assert driver.read("p/q/r/key") == b"%d" % number
                    driver.delete("p/q/r/key")
                    grow(driver, "p/s/growing", b"data")
                    publish(driver, "p/s/growing", "p/t/u/blob")
                    driver.swap("p/t/u/blob", None, expected=b"data")
            finally:
                done.set()
            for pruner in pruners:
                pruner.result(60)

    def test_presign_and_local_path(self, driver: Driver) -> None:
        driver.write("a/key", b"data")
        url = driver.presign("a/key", lifetime=60)
        assert url is None or url.startswith(("http://", "https://"))
        path = driver.local_path("a/key")
        assert path is None or path.read_bytes() == b"data"
        assert driver.local_path("absent") is None
        assert driver.local_path("a") is None

    def test_an_immediate_view_says_the_same_or_that_it_would_have_to_wait(
        self, driver: Driver
    ) -> None:
        view = driver.immediate()
        if view is None:
            return
        for data in (content(10_000), b"", b"replaced"):
            driver.write("a/key", data)
            with contextlib.suppress(WouldBlock):
                assert view.stat("a/key") == driver.stat("a/key")
            with contextlib.suppress(WouldBlock):
                assert view.read("a/key") == data
            with contextlib.suppress(WouldBlock):
                assert view.read("a/key", offset=3, length=2**40) == data[3:]
            with contextlib.suppress(WouldBlock):
                assert view.read("a/key", offset=2**70, length=1) == b""
            with contextlib.suppress(WouldBlock), opened(view, "a/key") as reader:
                assert reader.info == driver.stat("a/key")
                assert reader.read_at(0, len(data)) == data
        driver.delete("a/key")
        for key in ("a/key", "a", "absent"):
            for use in (view.stat, view.read, view.open):
                with pytest.raises(WouldBlock):
                    use(key)
        with pytest.raises(InvalidKey):
            view.read("../a")

    def test_check_leaves_nothing(self, driver: Driver) -> None:
        at_once(4, lambda _: driver.check())
        assert keys_below(driver, "") == []

    def test_discards_remove_and_tell(self, driver: Driver) -> None:
        driver.write("a/b/data", b"x")
        driver.write("a/c/data", b"y")
        driver.begin_discards("run-1")
        discarder = driver.discarder("run-1", since=store_time(driver), lifetime=60)
        assert discarder.discard("a/b/data")
        with pytest.raises(ObjectNotFound):
            driver.stat("a/b/data")
        assert driver.read("a/c/data") == b"y"
        assert discarder.discard("a/none/data") in (False, driver.discards_expire)
        driver.forget_discards("run-1")
        driver.forget_discards("run-1")

    def test_a_batch_that_was_ended_before_its_first_discard_removes_nothing(
        self, driver: Driver
    ) -> None:
        driver.write("a/b/data", b"x")
        driver.begin_discards("run-1")
        driver.end_discards("run-1")
        if not driver.discards_expire:
            with pytest.raises(Void):
                driver.discarder("run-1", since=store_time(driver), lifetime=60).discard("a/b/data")
            assert driver.read("a/b/data") == b"x"

    def test_a_discard_does_nothing_once_its_batch_is_over(self, driver: Driver) -> None:
        driver.write("a/b/data", b"x")
        driver.begin_discards("run-1")
        driver.begin_discards("run-2")
        other = driver.discarder("run-2", since=store_time(driver), lifetime=60)
        late = driver.discarder("run-1", since=store_time(driver), lifetime=1)
        if driver.discards_expire:
            time.sleep(3.1)
        driver.end_discards("run-1")
        driver.end_discards("run-1")
        with pytest.raises(Void):
            late.discard("a/b/data")
        if not driver.discards_expire:
            with pytest.raises(Void):
                driver.discarder("run-1", since=store_time(driver), lifetime=60).discard("a/b/data")
        assert driver.read("a/b/data") == b"x"
        assert other.discard("a/b/data")

    def test_what_was_discarded_is_put_back_whole_or_not_at_all(self, driver: Driver) -> None:
        driver.write("a/b/data", b"x")
        driver.begin_discards("run-1")
        driver.discarder("run-1", since=store_time(driver), lifetime=60).discard("a/b/data")
        assert not driver.recover("a/b/data", lambda _: False)
        assert not driver.recover("a/none/data", lambda _: True)
        assert keys_below(driver, "a") == []
        if driver.recover("a/b/data", lambda reader: reader.read_at(0, 10) == b"x"):
            assert driver.read("a/b/data") == b"x"
        else:
            assert keys_below(driver, "a") == []
        assert not driver.recover("a/b/data", lambda _: True)
        driver.forget_discards("run-1")
        driver.write("a/c/data", b"y")
        driver.begin_discards("run-2")
        driver.discarder("run-2", since=store_time(driver), lifetime=60).discard("a/c/data")
        driver.forget_discards("run-2")
        assert not driver.recover("a/c/data", lambda _: True)

    def test_a_discarded_object_can_be_written_again(self, driver: Driver) -> None:
        driver.write("a/b/data", b"x")
        driver.begin_discards("run-1")
        discarder = driver.discarder("run-1", since=store_time(driver), lifetime=60)
        discarder.discard("a/b/data")
        driver.write("a/b/data", b"y")
        assert driver.read("a/b/data") == b"y"
        assert discarder.discard("a/b/data")
        driver.forget_discards("run-1")
        assert keys_below(driver, "a") == []
