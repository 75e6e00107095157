from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from auth.watched import LIMIT, Unusable, WatchedFile
from tests.auth.accountfiles import Clock


def _number(data: bytes) -> int:
    try:
        return int(data)
    except ValueError:
        raise ValueError("line 1 is no number.") from None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def _watched(path: Path, clock: Clock) -> WatchedFile[int]:
    return WatchedFile(str(path), _number, what="number file", interval=1.0, clock=clock)


def test_it_is_read_again_when_it_changes(path: Path, clock: Clock) -> None:
    file = _watched(path, clock)
    path.write_text("2")
    file.refresh()
    assert file.content == 1  # looked at a moment ago
    clock.pass_(1)
    file.refresh()
    assert (file.content, file.loaded, file.problem) == (2, 2, None)


@pytest.mark.parametrize("same", [False, True])
def test_a_change_within_the_same_time_stamp_is_seen(path: Path, clock: Clock, same: bool) -> None:
    file = _watched(path, clock)
    info = path.stat()
    path.write_text("2")
    if same:
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    clock.pass_(1)
    file.refresh()
    assert file.content == 2


def test_an_old_file_is_not_read_again(path: Path, clock: Clock) -> None:
    os.utime(path, (1_000_000_000, 1_000_000_000))
    read = 0

    def parse(data: bytes) -> int:
        nonlocal read
        read += 1
        return int(data)

    file = WatchedFile(str(path), parse, what="number file", clock=clock)
    for _ in range(3):
        clock.pass_(5)
        file.refresh()
    assert (read, file.loaded) == (1, 1)


def test_a_broken_file_changes_nothing_and_is_complained_of_once(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    file = _watched(path, clock)
    path.write_text("two")
    for _ in range(3):
        clock.pass_(1)
        file.refresh()
    assert file.content == 1
    assert file.problem is not None
    assert "line 1 is no number" in file.problem
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    path.write_text("1")  # what it was
    clock.pass_(1)
    file.refresh()
    assert file.content == 1
    assert not file.problem


def test_a_file_that_goes_away_changes_nothing(path: Path, clock: Clock) -> None:
    file = _watched(path, clock)
    path.unlink()
    clock.pass_(1)
    file.refresh()
    assert file.content == 1
    assert "cannot be read" in (file.problem or "")
    path.write_text("3")
    clock.pass_(1)
    file.refresh()
    assert (file.content, file.problem) == (3, None)


@pytest.mark.parametrize("content", ["x", "9" * (LIMIT + 1)])
def test_a_file_that_cannot_be_used_at_the_start_is_an_error(
    tmp_path: Path, clock: Clock, content: str
) -> None:
    path = tmp_path / "number"
    path.write_text(content)
    with pytest.raises(Unusable) as refused:
        _watched(path, clock)
    assert str(path) in str(refused.value)
    with pytest.raises(Unusable, match="No such file"):
        _watched(tmp_path / "missing", clock)


def test_many_may_ask_at_once(path: Path, clock: Clock) -> None:
    file = _watched(path, clock)
    path.write_text("2")
    clock.pass_(1)

    async def all_of_them() -> None:
        await asyncio.gather(*(file.refreshed() for _ in range(20)))

    asyncio.run(all_of_them())
    assert (file.content, file.loaded) == (2, 2)
