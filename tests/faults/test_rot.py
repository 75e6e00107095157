"""Bytes that changed where they lay (FAULTS row 80; rows 81 and 82 are with the API's tests)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.drivers.filesystem import FilesystemDriver
from tests.faults import inprocess
from tests.faults.content import APP, BLOB, LIB, fill, get, push_blob, sent
from tests.faults.inprocess import InProcess
from tests.faults.scenes import directory
from tests.support.images import sha256
from tests.support.tree import check_tree

DIGEST = sha256(BLOB)


@pytest.fixture
def root() -> Iterator[Path]:
    with directory() as path:
        yield path


@pytest.fixture
def registry(root: Path) -> Iterator[InProcess]:
    """With BLOB in it, of which one bit has changed."""
    driver = FilesystemDriver(root)
    driver.prepare()
    with inprocess.serving(driver) as registry:
        fill(registry)
        push_blob(registry, BLOB)
        value = DIGEST.removeprefix("sha256:")
        path = root / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"
        path.write_bytes(bytes([BLOB[0] ^ 1]) + BLOB[1:])
        yield registry


def test_a_flipped_bit_does_not_deceive_the_client(registry: InProcess, root: Path) -> None:
    """It is served under the digest of what it was, and whoever pulls it compares."""
    answer = sent(registry, get(f"/v2/{APP}/blobs/{DIGEST}"), 200)
    assert answer.headers["docker-content-digest"] == DIGEST != sha256(answer.content)
    assert len(check_tree(root)) == 2  # the content, and the link to it


@pytest.mark.parametrize("name", [APP, LIB])
def test_the_next_push_mends_a_flipped_bit(registry: InProcess, root: Path, name: str) -> None:
    push_blob(registry, BLOB, name)
    assert sent(registry, get(f"/v2/{APP}/blobs/{DIGEST}"), 200).content == BLOB
    assert check_tree(root) == []
