"""Bodies into uploads: nothing lost, nothing twice, and no thread left behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TypeVar

import pytest

from registry.streaming import (
    BATCH,
    BUDGET,
    SMALLEST_BATCH,
    ClientGone,
    Threads,
    Uploading,
    discard,
    read_at_most,
)
from storage.blobs import BlobMemory, Blobs
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest
from storage.model.errors import StorageFull
from storage.model.reference import RepositoryName
from storage.upload_session import Session
from storage.uploads import Uploads

T = TypeVar("T")


class FakeBody:
    """A body that arrives in pieces; after the last of them the client goes, if it is to."""

    def __init__(
        self, pieces: Sequence[bytes], *, expected: int | None = None, gone: bool = False
    ) -> None:
        self.expected = expected
        self.received = 0
        self.window = 0
        self.batch = 1
        self.limits: list[int] = []
        self.read_while_gone = 0
        self._pieces = list(pieces)
        self._gone = gone

    async def read(self, limit: int) -> list[bytes | memoryview]:
        await asyncio.sleep(0)
        self.limits.append(limit)
        if not self._pieces:
            if self._gone:
                raise ClientGone
            return []
        piece, *self._pieces = self._pieces
        self.received += len(piece)
        return [piece]


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(4)
    yield threads
    threads.close()


def run(work: Callable[[], Coroutine[object, object, T]]) -> T:
    return asyncio.run(asyncio.wait_for(work(), 20))


@pytest.fixture
def uploads() -> Uploads:
    driver, name = MemoryDriver(), RepositoryName("a")
    return Uploads(driver, name, Blobs(driver, name, BlobMemory()))


def a_session(uploads: Uploads) -> Session:
    return uploads.resume(uploads.start())


def content(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(size % 251)


@pytest.mark.parametrize("size", [0, 1, SMALLEST_BATCH, BATCH - 1, BATCH, BATCH + 1, 5 * BATCH + 3])
@pytest.mark.parametrize("piece", [7000, 256 * 1024, 3 * BATCH])
def test_a_body_arrives_whole_and_in_order(
    threads: Threads, uploads: Uploads, size: int, piece: int
) -> None:
    data = content(size)
    body = FakeBody([data[start : start + piece] for start in range(0, size, piece)])
    session = a_session(uploads)
    opened: list[int] = []
    run(lambda: Uploading(threads, opened.append).receive(body, session))
    assert session.size == size
    uploads.commit(session, Digest.of(data))
    assert opened == [1, -1]


@pytest.mark.parametrize("kept", [0, 10, BATCH, 2 * BATCH + 1000])
def test_what_came_before_the_client_went_is_kept(
    threads: Threads, uploads: Uploads, kept: int
) -> None:
    data = content(kept)
    pieces = [data[start : start + 1000] for start in range(0, kept, 1000)]
    session = a_session(uploads)
    opened: list[int] = []
    with pytest.raises(ClientGone):
        run(lambda: Uploading(threads, opened.append).receive(FakeBody(pieces, gone=True), session))
    assert session.size == kept
    assert session.verify(Digest.of(b"")) == Digest.of(data)
    assert sum(opened) == 0


class FailingSession:
    """A session whose storage is full after so many bytes."""

    def __init__(self, room: int) -> None:
        self.size = 0
        self.calls: list[int] = []
        self._room = room

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        size = sum(map(len, chunks))
        self.calls.append(size)
        if self.size + size > self._room:
            raise StorageFull
        self.size += size


@pytest.mark.parametrize("room", [0, BATCH, 2 * BATCH])
def test_a_full_storage_ends_the_body_at_once(threads: Threads, room: int) -> None:
    session = FailingSession(room)
    body = FakeBody([bytes(BATCH)] * 50)
    with pytest.raises(StorageFull):
        run(lambda: Uploading(threads, lambda _: None).receive(body, session))  # type: ignore[arg-type]  # as far as it is used
    assert session.size == room
    assert body.received <= room + 2 * BATCH


def test_a_full_storage_is_told_even_if_the_client_went(threads: Threads) -> None:
    session = FailingSession(0)
    body = FakeBody([b"some bytes"], gone=True)
    with pytest.raises(StorageFull):
        run(lambda: Uploading(threads, lambda _: None).receive(body, session))  # type: ignore[arg-type]  # as far as it is used


def test_batches_are_large_alone_and_small_in_a_crowd(threads: Threads) -> None:
    """Together they stay within the budget, until each is at its smallest."""

    async def first_batch(crowd: int) -> int:
        uploading = Uploading(threads, lambda _: None)
        hold = asyncio.Event()

        class Waiting(FakeBody):
            async def read(self, limit: int) -> list[bytes | memoryview]:
                self.limits.append(limit)
                await hold.wait()
                return []

        bodies = [Waiting([]) for _ in range(crowd)]
        tasks = [
            asyncio.ensure_future(uploading.receive(body, FailingSession(0)))  # type: ignore[arg-type]  # nothing comes
            for body in bodies
        ]
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(*tasks)
        return bodies[-1].limits[0]

    assert run(lambda: first_batch(1)) == BATCH
    assert run(lambda: first_batch(10)) == BATCH
    assert run(lambda: first_batch(100)) * 100 <= BUDGET
    assert run(lambda: first_batch(1000)) == SMALLEST_BATCH


def test_a_small_body_is_read_up_to_its_limit() -> None:
    assert run(lambda: read_at_most(FakeBody([b"ab", b"c"]), 3)) == b"abc"
    assert run(lambda: read_at_most(FakeBody([]), 0)) == b""
    assert run(lambda: read_at_most(FakeBody([b"ab", b"cd", b"ef"]), 3)) is None


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    body = FakeBody([b"abcd"], expected=4)
    assert run(lambda: read_at_most(body, 3)) is None
    assert body.limits == []


def test_a_body_too_large_is_not_read_on() -> None:
    body = FakeBody([b"a" * 1000] * 1000)
    assert run(lambda: read_at_most(body, 1500)) is None
    assert body.received == 2000


def test_discard_reads_to_the_end() -> None:
    body = FakeBody([b"a" * 1000] * 10)
    run(lambda: discard(body))
    assert body.received == 10_000


def test_an_operation_that_began_is_waited_for(threads: Threads) -> None:
    """A cancelled request must not leave a thread working on what it then closes."""
    began, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def operation() -> None:
        began.set()
        assert go_on.wait(10)
        done.set()

    async def work() -> None:
        task = asyncio.ensure_future(threads.run(operation))
        await asyncio.get_running_loop().run_in_executor(None, began.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done.is_set()

    run(work)


def test_threads_know_the_context_of_their_caller(threads: Threads) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def work() -> str:
        variable.set("of the request")
        return await threads.run(variable.get)

    assert run(work) == "of the request"


def test_errors_of_an_operation_reach_the_caller(threads: Threads) -> None:
    def operation() -> None:
        raise StorageFull

    with pytest.raises(StorageFull):
        run(lambda: threads.run(operation))
