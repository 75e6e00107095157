"""Link files: written exactly, read with tolerance."""

from __future__ import annotations

import logging

import pytest

from storage import links
from storage.driver import Driver
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
