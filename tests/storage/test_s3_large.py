"""Objects beyond what S3 does in one request: 5 GiB in a copy or a part, 10,000 parts in an upload.

The limits are lowered where bytes are moved, since the arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storage.driver_errors import NoSpace
from storage.drivers.s3 import multipart, publishing
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.growing import Chunk
from storage.drivers.s3.settings import LARGEST_COPY, MOST_PARTS, SMALLEST_PART, S3Settings
from tests.storage.driver_contract import content
from tests.support.s3 import S3Store
from tests.support.s3proxy import S3Proxy

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
CHUNK = 8 * MEBIBYTE


@pytest.fixture
def driver(proxy: S3Proxy, bucket: str) -> Iterator[S3Driver]:
    settings = S3Settings(
        **proxy.store.parameters(bucket), chunksize=CHUNK, multipartcopychunksize=CHUNK
    )
    driver = S3Driver(settings)
    yield driver
    driver.close()


@pytest.mark.parametrize(
    "sizes",
    [
        [5 * GIBIBYTE + 1],
        [6 * GIBIBYTE, 7 * GIBIBYTE + 12345],
        [156 * GIBIBYTE],
        [1024 * GIBIBYTE, 5 * MEBIBYTE],
        [5 * 1024 * GIBIBYTE],
    ],
)
def test_every_byte_is_copied_once_and_in_parts_that_a_store_takes(sizes: list[int]) -> None:
    chunks, at = [], 0
    for number, size in enumerate(sizes):
        chunks.append(Chunk(f"chunk-{number}", at, size, 0.0))
        at += size
    pieces = list(publishing.pieces(chunks, 32 * MEBIBYTE))
    assert len(pieces) <= MOST_PARTS
    for chunk in chunks:
        of_it = [(first, last) for source, first, last in pieces if source is chunk]
        assert [first for first, _ in of_it] == [0, *(last + 1 for _, last in of_it[:-1])]
        assert of_it[-1][1] == chunk.size - 1
        assert all(SMALLEST_PART <= last - first + 1 <= LARGEST_COPY for first, last in of_it)


def test_a_layer_that_is_too_large_for_one_copy(
    driver: S3Driver, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from a store that would copy it in one request, were it smaller."""
    monkeypatch.setattr(publishing, "LARGEST_COPY", 2 * CHUNK)
    driver._workshop.abilities.copied(CHUNK, 0.001)
    assert driver._workshop.abilities.copies_by_reference
    data = content(3 * CHUNK + 12345)
    with driver.writer("u/data", create=True) as writer:
        writer.append([data])
        writer.sync()
        proxy.forget()
        writer.publish("blob")
    counts = proxy.counts()
    assert "CopyObject" not in counts
    assert counts["UploadPartCopy"] == 3
    assert driver.read("blob") == data


def test_a_layer_of_more_parts_than_a_store_takes(
    driver: S3Driver, rgw: S3Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "MOST_PARTS", 2)
    with driver.writer("u/data", create=True, final="blob") as writer:
        with pytest.raises(NoSpace, match="raise `chunksize`"):
            for start in range(8):
                writer.append([content(CHUNK, seed=start)])
    driver.flush()
    assert rgw.unfinished(bucket) == []
    assert rgw.keys(bucket) == {}
