"""Link files: written exactly, read with tolerance."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from storage import links
from storage.driver import Driver
from storage.driver_errors import WouldBlock
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest

DIGEST = Digest.of(b"content")


def test_a_link_is_the_digest_and_nothing_else(driver: Driver) -> None:
    links.write(driver, "a/link", DIGEST)
    assert driver.read("a/link") == str(DIGEST).encode()
    assert links.read(driver, "a/link") == DIGEST


def test_an_absent_link(driver: Driver) -> None:
    assert links.read(driver, "a/link") is None


@pytest.mark.parametrize("content", [b"%s\n", b" %s \r\n", b"%s"])
def test_white_space_is_tolerated(driver: Driver, content: bytes) -> None:
    driver.write("a/link", content % str(DIGEST).encode())
    assert links.read(driver, "a/link") == DIGEST


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"sha256:",
        str(DIGEST).encode()[:40],
        str(DIGEST).encode() + b"0",
        str(DIGEST).encode() * 2,
        b"\0" * 71,
        b"\xff" * 71,
        b"x" * 100_000,
    ],
)
def test_damage_counts_as_absent_and_is_reported(
    driver: Driver, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    driver.write("a/link", content)
    with caplog.at_level(logging.WARNING):
        assert links.read(driver, "a/link") is None
    assert "a/link" in caplog.text
    links.write(driver, "a/link", DIGEST)
    assert links.read(driver, "a/link") == DIGEST


class CountingDriver(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, key: str, data: bytes) -> None:
        self.writes += 1
        super().write(key, data)


def test_an_unchanged_link_costs_no_write() -> None:
    driver = CountingDriver()
    links.write(driver, "a/link", DIGEST)
    links.write(driver, "a/link", DIGEST)
    assert driver.writes == 1
    links.write(driver, "a/link", Digest.of(b"other"))
    assert driver.writes == 2


class Emptied(MemoryDriver):
    """Whose objects are found empty for so many reads, as while another registry writes them anew."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        held = super().read(key, offset=offset, length=length)
        if not self.left:
            return held
        self.left -= 1
        return b""


def test_a_link_that_is_just_being_written_is_read_again(caplog: pytest.LogCaptureFixture) -> None:
    driver = Emptied(times=0)
    links.write(driver, "a/link", DIGEST)
    for times in (1, len(links.PAUSES)):
        driver.left = times
        with caplog.at_level(logging.WARNING):
            assert links.read(driver, "a/link") == DIGEST
        assert driver.left == 0
    assert caplog.text == ""


def test_a_link_that_goes_while_it_is_waited_for() -> None:
    driver = Emptied(times=1)
    driver.write("a/link", b"")

    def gone(seconds: float) -> None:
        driver.delete("a/link")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", gone)
        assert links.content(driver, "a/link") is None


def test_what_can_not_be_on_its_way_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    driver = FilesystemDriver(tmp_path)
    driver.prepare()
    assert links.read(driver, "a/absent") is None
    driver.write("a/torn", b"sha256:")
    assert links.read(driver, "a/torn") is None
    driver.write("a/old", b"")
    long_ago = time.time() - 2 * links.RECENT
    os.utime(tmp_path / "a/old", (long_ago, long_ago))
    assert links.read(driver, "a/old") is None
    assert waits == []
    driver.write("a/new", b"")
    assert links.read(driver, "a/new") is None
    assert waits == [*links.PAUSES]


def test_an_event_loop_does_not_wait_for_a_link(tmp_path: Path) -> None:
    driver = FilesystemDriver(tmp_path)
    driver.prepare()
    driver.write("a/link", b"")
    view = driver.immediate()
    if view is None:
        pytest.skip("this filesystem or kernel has no immediate view")
    with pytest.raises(WouldBlock):
        links.read(view, "a/link")
