"""Ranges, links, warnings, and content that goes out by zero copy or by reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from registry.responses import (
    READ_SIZE,
    ByteRange,
    ContentResponse,
    EncodedResponse,
    Unsatisfiable,
    encoded,
    etag,
    next_page,
    parse_range,
    warning,
)
from registry.streaming import Threads
from storage.driver import Driver, Reader
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-99", ByteRange(0, 100)),
        ("bytes=50-59", ByteRange(50, 10)),
        ("bytes=50-", ByteRange(50, 50)),
        ("bytes=99-", ByteRange(99, 1)),
        ("bytes=90-500", ByteRange(90, 10)),
        (f"bytes=90-{'9' * 19}", ByteRange(90, 10)),
        ("bytes=-10", ByteRange(90, 10)),
        ("bytes=-100", ByteRange(0, 100)),
        ("bytes=-5000", ByteRange(0, 100)),
        ("bytes= 50 - 59 ", ByteRange(50, 10)),
        # Several come back whole, as does what is no byte range.
        ("bytes=0-1,3-4", None),
        ("bytes=" + "0-," * 5000, None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=٣-٥", None),
        ("bytes=1_0-2_0", None),
        ("bytes=0-" + "9" * 20, None),
        ("lines=0-5", None),
        ("0-5", None),
        ("", None),
    ],
)
def test_ranges(header: str | None, expected: ByteRange | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    "header", ["bytes=100-", "bytes=100-200", "bytes=60-50", "bytes=500-0", "bytes=-0"]
)
def test_unsatisfiable_ranges(header: str) -> None:
    with pytest.raises(Unsatisfiable) as caught:
        parse_range(header, 100)
    assert caught.value.size == 100


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=-0"])
def test_empty_content_has_no_range(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 0)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200))
def test_a_range_is_what_slicing_gives(first: int, last: int, size: int) -> None:
    content = bytes(range(200))[:size]
    try:
        span = parse_range(f"bytes={first}-{last}", size)
    except Unsatisfiable:
        assert content[first : last + 1] == b""
        return
    assert span is not None
    assert content[span.start : span.start + span.length] == content[first : last + 1]
    assert span.length > 0


@settings(deadline=None)
@given(st.text(max_size=40), st.integers(0, 1000))
def test_any_header_is_a_range_or_none(header: str, size: int) -> None:
    try:
        span = parse_range(f"bytes={header}", size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span.start < span.start + span.length <= size


def test_etag() -> None:
    assert etag(Digest.of(b"")) == f'"{Digest.of(b"")}"'


def test_links_are_sorted_and_encoded() -> None:
    assert next_page("/v2/_catalog", n=5, last="a/b&c", other=None) == {
        "Link": '</v2/_catalog?last=a%2Fb%26c&n=5>; rel="next"'
    }


def test_warnings_fit_into_a_header() -> None:
    text = warning('He said "no"\r\nX: y\\ é' + "x" * 5000)["Warning"]
    assert text.startswith("299 - \"He said 'no'")
    assert text.isascii()
    assert text.isprintable()
    assert text.count('"') == 2
    assert len(text) < 1100


class Sent:
    """An ASGI server that notes what it is given."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self._fail_after = fail_after

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if self._fail_after is not None and len(self.messages) >= self._fail_after:
            raise OSError("the client is gone")
        self.messages.append(message)

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def receive() -> MutableMapping[str, Any]:
    raise AssertionError("a response does not read")


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(2)
    yield threads
    threads.close()


@pytest.fixture(params=["memory", "filesystem"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    if request.param == "memory":
        return MemoryDriver()
    driver = FilesystemDriver(tmp_path)
    driver.prepare()
    return driver


def answer(
    reader: Reader,
    span: ByteRange,
    threads: Threads,
    sent: Sent,
    extensions: dict[str, Any] | None = None,
) -> None:
    response = ContentResponse(reader, span, threads, 206, {"Content-Length": str(span.length)})
    scope = {"type": "http", "extensions": extensions or {}}
    asyncio.run(response(scope, receive, sent))


@pytest.mark.parametrize(
    "span",
    [
        ByteRange(0, 0),
        ByteRange(0, 1),
        ByteRange(5, READ_SIZE),
        ByteRange(0, 3 * READ_SIZE + 7),
        ByteRange(READ_SIZE, 2 * READ_SIZE + 7),
    ],
)
def test_content_is_read_and_sent_in_pieces(
    driver: Driver, threads: Threads, span: ByteRange
) -> None:
    content = bytes(range(256)) * (3 * READ_SIZE // 256) + b"the end"
    driver.write("object", content)
    reader = driver.open("object")
    sent = Sent()
    answer(reader, span, threads, sent)
    start, *bodies = sent.messages
    assert start["status"] == 206
    assert (b"content-length", str(span.length).encode()) in start["headers"]
    assert sent.content == content[span.start : span.start + span.length]
    assert [body["more_body"] for body in bodies] == [True] * (len(bodies) - 1) + [False]
    assert all(len(body["body"]) <= READ_SIZE for body in bodies)


def test_zero_copy_where_server_and_storage_can(tmp_path: Path, threads: Threads) -> None:
    driver = FilesystemDriver(tmp_path)
    driver.prepare()
    driver.write("object", b"0123456789")
    reader = driver.open("object")
    descriptor = reader.fileno()
    sent = Sent()
    answer(reader, ByteRange(2, 5), threads, sent, {"http.response.zerocopysend": {}})
    assert sent.messages[1:] == [
        {
            "type": "http.response.zerocopysend",
            "file": descriptor,
            "offset": 2,
            "count": 5,
            "more_body": False,
        }
    ]


def test_reading_where_only_the_server_can(threads: Threads) -> None:
    driver = MemoryDriver()
    driver.write("object", b"0123456789")
    sent = Sent()
    answer(
        driver.open("object"), ByteRange(2, 5), threads, sent, {"http.response.zerocopysend": {}}
    )
    assert sent.content == b"23456"


class Tracked:
    """A reader that knows whether it was closed, and that nothing reads from it afterwards."""

    def __init__(self, reader: Reader, stop_at: int | None = None) -> None:
        self._reader = reader
        self._stop_at = stop_at
        self.info = reader.info
        self.closed = False
        self.read_after_close = False

    def read_at(self, offset: int, length: int) -> bytes:
        self.read_after_close |= self.closed
        if self._stop_at is not None and offset >= self._stop_at:
            return b""
        return self._reader.read_at(offset, length)

    def fileno(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True
        self._reader.close()


def test_the_reader_is_closed_after_all(driver: Driver, threads: Threads) -> None:
    driver.write("object", b"0" * (4 * READ_SIZE))
    for fail_after in (None, 0, 1, 2):
        reader = Tracked(driver.open("object"))
        try:
            answer(reader, ByteRange(0, 4 * READ_SIZE), threads, Sent(fail_after))
        except OSError:
            assert fail_after is not None
        assert reader.closed
        assert not reader.read_after_close


def test_content_that_ends_early_is_not_made_to_look_whole(
    driver: Driver, threads: Threads
) -> None:
    driver.write("object", b"0" * (2 * READ_SIZE))
    reader = Tracked(driver.open("object"), stop_at=READ_SIZE)
    sent = Sent()
    with pytest.raises(OSError, match="shorter"):
        answer(reader, ByteRange(0, 2 * READ_SIZE), threads, sent)
    assert all(message.get("more_body", True) for message in sent.messages)
    assert reader.closed


def test_a_client_that_goes_while_a_thread_reads(threads: Threads) -> None:
    driver = MemoryDriver()
    driver.write("object", b"0" * (4 * READ_SIZE))
    reader = Tracked(driver.open("object"))
    response = ContentResponse(reader, ByteRange(0, 4 * READ_SIZE), threads, 200, {})

    async def stuck(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.ensure_future(response({"type": "http", "extensions": {}}, receive, stuck))
        while not task.done() and not reader.closed:
            await asyncio.sleep(0)
            if asyncio.current_task() is not None:
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(run(), 10))
    assert reader.closed
    assert not reader.read_after_close


def test_encoded_headers_serve_many_answers() -> None:
    headers = encoded({"ETag": '"x"', "Content-Length": "5"})
    assert list(headers) == [(b"etag", b'"x"'), (b"content-length", b"5")]
    one, other = EncodedResponse(b"hello", 200, headers), EncodedResponse(b"", 304, headers)
    one.headers["warning"] = "only here"
    assert "warning" not in other.headers
    assert len(headers) == 2
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody asks")

    asyncio.run(other({"type": "http", "method": "GET"}, receive, send))
    assert [message.get("status") for message in sent] == [304, None]
    assert sent[0]["headers"] == list(headers)
    assert sent[1]["body"] == b""
