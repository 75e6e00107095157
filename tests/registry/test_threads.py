"""Look-ups in a storage that hangs: who waits, for how long, and what is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TypeVar

import pytest

from registry.threads import Threads
from storage.drivers.memory import MemoryDriver
from storage.drivers.observed import ObservedDriver
from storage.model.errors import BlobUnknown, Unavailable

T = TypeVar("T")

PATIENCE = 0.2


def run(work: Callable[[], Coroutine[object, object, T]]) -> T:
    return asyncio.run(asyncio.wait_for(work(), 20))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a call to the storage waits for; nothing outlives the test."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def threads(gate: threading.Event) -> Iterator[Threads]:
    threads = Threads(4, PATIENCE)
    yield threads
    gate.set()
    threads.close()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


def stuck_on(gate: threading.Event, found: str = "late") -> Callable[[], str]:
    def look() -> str:
        assert gate.wait(20)
        return found

    return look


def test_what_is_found_or_raised_comes_back(threads: Threads) -> None:
    def missing() -> None:
        raise BlobUnknown("The repository has no such blob.")

    async def scenario() -> None:
        assert await threads.look_up(lambda: "found") == "found"
        with pytest.raises(BlobUnknown):
            await threads.look_up(missing)

    run(scenario)


def test_a_stuck_look_up_is_given_up_and_counts_until_it_comes_back(
    threads: Threads, gate: threading.Event
) -> None:
    dropped: list[str] = []

    async def scenario() -> None:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.2 seconds") as caught:
            await threads.look_up(stuck_on(gate), dropped.append)
        assert caught.value.retry_after > 0
        assert not threads.exhausted  # one of four
        with pytest.raises(Unavailable):
            await threads.look_up(stuck_on(gate), dropped.append)
        await until(lambda: threads.exhausted)
        assert dropped == []
        gate.set()
        await until(lambda: not threads.exhausted and len(dropped) == 2)
        assert await threads.look_up(lambda: "again") == "again"

    run(scenario)
    assert dropped == ["late", "late"]


def test_while_half_of_them_are_stuck_requests_are_refused_and_work_goes_on(
    threads: Threads, gate: threading.Event
) -> None:
    asked: list[str] = []

    async def scenario() -> None:
        given_up = [threads.look_up(stuck_on(gate)) for _ in range(2)]
        assert all(
            isinstance(error, Unavailable)
            for error in await asyncio.gather(*given_up, return_exceptions=True)
        )
        with pytest.raises(Unavailable, match="too many requests wait"):
            threads.require()
        with pytest.raises(Unavailable, match="too many requests wait"):
            await threads.look_up(lambda: asked.append("looked"))
        assert await threads.run(lambda: "a commit that was begun") == "a commit that was begun"

    run(scenario)
    assert asked == []


def test_a_change_is_never_given_up(threads: Threads, gate: threading.Event) -> None:
    async def scenario() -> None:
        commit = asyncio.ensure_future(threads.run(stuck_on(gate, "done")))
        await asyncio.wait([commit], timeout=3 * PATIENCE)
        assert not commit.done()
        assert not threads.exhausted
        gate.set()
        assert await commit == "done"

    run(scenario)


def test_a_storage_that_answers_is_waited_for_however_slow_it_is(threads: Threads) -> None:
    answers = threading.Semaphore(0)
    recorded: list[str] = []

    class Slow(MemoryDriver):
        def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
            assert answers.acquire(timeout=20)
            return b""

    driver = ObservedDriver(Slow(), threads.hearing(lambda name, *_: recorded.append(name)))

    def many_calls() -> str:
        for _ in range(8):
            driver.read("key")
        return "found"

    async def scenario() -> None:
        look = asyncio.ensure_future(threads.look_up(many_calls))
        for _ in range(8):
            await asyncio.wait([look], timeout=PATIENCE / 2)
            answers.release()
        assert await look == "found"

    run(scenario)
    assert recorded == ["read"] * 8


def test_a_look_up_that_found_no_thread_in_time_is_never_begun(
    threads: Threads, gate: threading.Event
) -> None:
    asked: list[str] = []

    async def scenario() -> None:
        commits = [threads.start(stuck_on(gate)) for _ in range(4)]
        with pytest.raises(Unavailable):
            await threads.look_up(lambda: asked.append("looked"))
        assert not threads.exhausted
        gate.set()
        await asyncio.gather(*commits)

    run(scenario)
    assert asked == []


def test_a_cancelled_look_up_ends_at_once_and_leaves_nothing_open(
    threads: Threads, gate: threading.Event
) -> None:
    begun, dropped = threading.Event(), threading.Event()

    def look() -> str:
        begun.set()
        return stuck_on(gate)()

    async def scenario() -> None:
        looking = asyncio.ensure_future(threads.look_up(look, lambda _: dropped.set()))
        await until(begun.is_set)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        assert not dropped.is_set()
        gate.set()
        await until(dropped.is_set)

    run(scenario)


def test_the_failure_of_one_that_was_given_up_is_logged(
    threads: Threads, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        assert gate.wait(20)
        raise Unavailable("The server came back and knows nothing.")

    async def scenario() -> None:
        with pytest.raises(Unavailable, match="did not answer"):
            await threads.look_up(fail)
        gate.set()
        await until(lambda: "given up" in caplog.text)

    with caplog.at_level("INFO"):
        run(scenario)
    assert "The server came back" in caplog.text


def test_closing_does_not_wait_for_what_is_stuck(gate: threading.Event) -> None:
    threads = Threads(1, PATIENCE)

    async def scenario() -> None:
        with pytest.raises(Unavailable):
            await threads.look_up(stuck_on(gate))

    run(scenario)
    threads.close()
    assert not gate.is_set()
