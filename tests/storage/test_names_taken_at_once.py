"""A name that others give to their files at the same moment, as two NFS nodes and another registry do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.driver_errors import Unavailable
from storage.drivers.filesystem import CHANGED_TRIES, FilesystemDriver
from storage.drivers.tree import STALE_TRIES, TRIES
from tests.storage.driver_contract import content, grow, keys_below, publish
from tests.storage.test_filesystem import descriptors_below

KEY = "a/key"


@pytest.fixture
def driver(tmp_path: Path) -> FilesystemDriver:
    driver = FilesystemDriver(tmp_path)
    driver.prepare()
    driver._tree.local = False
    return driver


class Fails:
    """The first `times` calls of a function of `os`, each as `failure` says; then it is itself again."""

    def __init__(
        self, patch: pytest.MonkeyPatch, call: str, times: int, failure: Callable[..., Any]
    ) -> None:
        self.left = times
        self._failure = failure
        self._real: Callable[..., Any] = getattr(os, call)
        patch.setattr(os, call, self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left:
            self.left -= 1
            return self._failure(*arguments)
        return self._real(*arguments, **options)


def with_error(number: int) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ETXTBSY, errno.EBUSY, errno.ESTALE])
def test_a_rename_while_the_client_moves_the_old_file_away(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    grow(driver, "growing", b"blob")
    with monkeypatch.context() as patch:
        renames = Fails(patch, "rename", 2, with_error(number))
        publish(driver, "growing", KEY)
        assert renames.left == 0
        renames.left = 2
        driver.write("a/link", b"link")
        assert renames.left == 0
    assert (driver.read(KEY), driver.read("a/link")) == (b"blob", b"link")
    assert keys_below(driver, "") == [KEY, "a/link"]


def test_a_rename_that_stays_impossible_is_told_of(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Fails(patch, "rename", TRIES + 1, with_error(errno.ETXTBSY))
        with pytest.raises(Unavailable, match="ETXTBSY"):
            driver.write(KEY, b"new")
    assert keys_below(driver, "") == []


def test_a_file_that_is_gone_as_soon_as_it_was_opened(
    tmp_path: Path, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says so when the client asks for its size."""
    driver.write(KEY, b"blob")
    grow(driver, "growing", b"blob")
    with monkeypatch.context() as patch:
        looks = Fails(patch, "fstat", 3, with_error(errno.ESTALE))
        assert driver.read(KEY) == b"blob"
        assert looks.left == 0
        looks.left = 3
        assert driver.stat(KEY).size == 4
        assert looks.left == 0
    with monkeypatch.context() as patch:
        left, real = 3, os.fstat

        def stale_as_published(descriptor: int) -> os.stat_result:
            nonlocal left
            if left and os.readlink(f"/proc/self/fd/{descriptor}").endswith(f"/{KEY}"):
                left -= 1
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return real(descriptor)

        patch.setattr(os, "fstat", stale_as_published)
        publish(driver, "growing", KEY)
        assert left == 0
    with monkeypatch.context() as patch:
        Fails(patch, "fstat", STALE_TRIES + 2, with_error(errno.ESTALE))
        with pytest.raises(Unavailable, match="ESTALE"):
            driver.stat(KEY)
    assert driver.read(KEY) == b"blob"
    assert keys_below(driver, "") == [KEY]
    assert descriptors_below(tmp_path) == []


def test_an_object_replaced_while_it_is_read_is_read_anew(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.write(KEY, b"old")

    def replaced(*_: object) -> None:
        driver.write(KEY, b"newer")
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        Fails(patch, "pread", 1, replaced)
        assert driver.read(KEY) == b"newer"


def test_an_object_written_in_place_while_it_is_read_is_read_anew(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Distribution writes links: what was opened with all its bytes is empty when it is read."""
    driver.write(KEY, content(71))
    with monkeypatch.context() as patch:
        Fails(patch, "pread", 1, lambda *_: b"")
        assert driver.read(KEY) == content(71)
    with monkeypatch.context() as patch:
        Fails(patch, "pread", CHANGED_TRIES + 1, lambda *_: b"")
        with pytest.raises(Unavailable, match="ends at 0 of 71"):
            driver.read(KEY)
