"""What copying says of its progress, and what it makes of a storage that fails."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from registry.copying import crew
from registry.copying.crew import Crew, GivenUp, Stopped
from registry.copying.progress import EVERY, Bar, Lines
from registry.copying.report import LISTED, Report, sentences
from registry.copying.trees import contents
from storage.driver import ObjectInfo
from storage.driver_errors import NoSpace, Unavailable
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from tests.gc.shop import Shop
from tests.storage.remote import RemoteMemory
from tests.support.s3 import S3Store


def test_a_log_has_a_line_for_each_phase_and_one_a_minute() -> None:
    lines: list[str] = []
    now = 0.0
    progress = Lines(lines.append, lambda: now)
    with progress:
        progress.begin("Copying blobs", 3, 3_000_000)
        progress.item()
        progress.bytes(1_000_000)
        now = EVERY
        progress.item()
        progress.bytes(1)
        progress.begin("Comparing")
        now = 2 * EVERY
        progress.item()
    assert lines == [
        "Copying blobs, 3, 3.0 MB.",
        "Copying blobs: 2 of 3, 1.0 MB of 3.0 MB.",
        "Comparing.",
        "Comparing: 1.",
    ]


def test_a_terminal_has_a_bar() -> None:
    screen = io.StringIO()
    with Bar(Console(file=screen, force_terminal=True, width=120)) as progress:
        progress.begin("Copying blobs", 2, 2_000_000)
        progress.bytes(1_000_000)
        progress.item()
        progress.begin("Linking repositories")
        progress.item()
    assert "Copying blobs" in screen.getvalue()
    assert "1/2" in screen.getvalue()
    assert "1.0/2.0 MB" in screen.getvalue()


@pytest.fixture(params=["disk", "bucket"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "disk":
        driver = FilesystemDriver(tmp_path)
        driver.prepare()
        yield Shop(driver)
        return
    store: S3Store = request.getfixturevalue("rgw")
    with store.fresh() as bucket:
        made = S3Driver(S3Settings(**store.parameters(bucket)))
        yield Shop(made)
        made.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Crew:
    monkeypatch.setattr(crew, "PAUSES", (0.0, 0.0))
    return Crew(2)


def test_what_fails_is_tried_again(hasty: Crew) -> None:
    errors = [Unavailable("the store is away")] * 2

    def attempt() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert hasty.patiently(attempt) == "done"
    errors += [Unavailable("the store is away")] * 3
    with pytest.raises(Unavailable):
        hasty.patiently(attempt)


def test_a_full_target_and_one_that_never_answers_end_it(hasty: Crew) -> None:
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(GivenUp, match="The target is full"):
        hasty.patiently(lambda: fail(NoSpace("no room")))
    with pytest.raises(GivenUp, match="fails again and again"):
        for _ in range(crew.HOPELESS):
            with pytest.raises(Unavailable):
                hasty.patiently(lambda: fail(Unavailable("away")))


def test_the_first_error_ends_the_work(hasty: Crew) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 3:
            raise ValueError("three")
        time.sleep(0.001)
        done.append(number)

    with pytest.raises(ValueError, match="three"):
        hasty.each(work, range(100_000))
    assert len(done) < 1000
    with pytest.raises(Stopped):
        hasty.check()


def test_a_report_keeps_the_first_problems_and_counts_all() -> None:
    report = Report()
    for number in range(LISTED + 5):
        report.problem(f"{number} is lost.")
    lines = sentences(report, removes=False)
    assert lines[0] == "0 is lost."
    assert "... and 5 more problems." in lines
    assert lines[-1].startswith(f"{LISTED + 5} problems: ")


def test_repositories_come_in_one_order_from_every_storage(shop: Shop) -> None:
    names = ["a", "a/b", "a/1", "a-b", "a.b", "0/z", "b"]
    for name in names:
        shop.image(name, "1", b"layer")
    found = [str(each.name) for each in contents(shop.driver, lambda _: None)]
    assert found == sorted(names, key=lambda name: f"{name}/_")
    first = next(contents(shop.driver, lambda _: None))
    assert (len(first.layers), len(first.revisions), len(first.tags)) == (2, 1, 1)


def test_what_is_no_repository_is_told_of(shop: Shop) -> None:
    shop.image("good", "1", b"layer")
    shop.driver.write("docker/registry/v2/repositories/UPPER/_layers/x", b"")
    strange: list[str] = []
    assert [str(each.name) for each in contents(shop.driver, strange.append)] == ["good"]
    assert strange == ["docker/registry/v2/repositories/UPPER"]


def test_a_store_that_does_not_list_in_order_is_not_believed() -> None:
    driver = RemoteMemory()
    shop = Shop(driver)
    for name in ("b", "a"):
        shop.image(name, "1", b"layer")
    keys = sorted((each.key for each in driver.walk("")), reverse=True)
    infos = {each.key: each for each in driver.walk("")}

    def walk(prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return iter(infos[key] for key in keys if key.startswith(prefix) and key > after)

    driver.walk = walk  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="out of order"):
        list(contents(driver, lambda _: None))
