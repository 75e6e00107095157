"""Chunked bodies, however they are written and wherever the network cuts them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.server import chunks
from registry.server.blocks import Blocks
from registry.server.refusals import Refused
from registry.server.request_body import RequestBody
from registry.server.request_head import RequestHead
from registry.server.request_stream import RequestStream
from registry.streaming import BATCH
from tests.registry.server.harness import settings

HEAD = b"PATCH /v2/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True, scope="module", params=[1, chunks.SMALLEST])
def smallest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Few are large enough to be read without llhttp; so all of this is tried with a smaller limit too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "SMALLEST", request.param)
        yield


class Receiver:
    """Takes every request that a stream has, and keeps their bodies."""

    def __init__(self) -> None:
        self.loop: Any = None
        self.blocks = Blocks()
        self.heads: list[RequestHead] = []
        self.bodies: list[RequestBody] = []
        self.ended = 0

    def request_begins(
        self,
        head: RequestHead,
        headers: list[tuple[bytes, bytes]],
        *,
        version: str,
        keep_alive: bool,
    ) -> RequestBody:
        self.heads.append(head)
        self.bodies.append(RequestBody(self, head.length, expects_continue=False))
        return self.bodies[-1]

    def request_ends(self) -> None:
        self.ended += 1

    def busy(self) -> bool:
        return False

    def body_wanted(self, body: RequestBody) -> None: ...

    def body_comes(self) -> None: ...

    def body_came(self) -> None: ...

    def body_taken(self) -> None: ...


def taken(body: RequestBody) -> bytes:
    """All that has come of it."""
    if not body.received:
        return b""
    reading = body.read(1 << 30)
    with pytest.raises(StopIteration) as end:
        reading.send(None)  # which need not wait: it is here
    return b"".join(end.value.value)


def fed(data: bytes, cuts: list[int], receiver: Receiver | None = None) -> Receiver:
    """What a stream makes of `data` in pieces, each of which is overwritten once it has been fed."""
    receiver = receiver or Receiver()
    stream = RequestStream(receiver, settings())
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        piece = bytearray(data[start:end])
        left = straight(stream, memoryview(piece))
        assert not stream.feed(left)
        left.release()
        piece[:] = b"\xff" * len(piece)
    return receiver


def straight(stream: RequestStream, data: memoryview) -> memoryview:
    """What is left after what comes while a body is received has been put where the body has room."""
    while data and (body := stream.receiving()) is not None:
        room = body.within_window()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        assert not stream.feed(room[:count], placed=True)
        data = data[count:]
    return data


def plain(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def unusual(data: bytes) -> bytes:
    return b"00000000000%X;name=value\r\n%b\r\n" % (len(data), data)


PIECES = st.lists(
    st.tuples(st.sampled_from([plain, unusual]), st.binary(min_size=1, max_size=40)), max_size=8
)
CUTS = st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=12)
ENDS = st.sampled_from([b"0\r\n\r\n", b"000\r\nTrailer: 1\r\n\r\n", b"0;last\r\n\r\n"])


@given(PIECES, ENDS, CUTS)
def test_every_way_to_write_a_body_gives_its_bytes(
    pieces: list[tuple[Any, bytes]], end: bytes, cuts: list[int]
) -> None:
    body = b"".join(write(data) for write, data in pieces)
    receiver = fed(HEAD + body + end + NEXT, cuts)
    assert receiver.ended == 2
    assert receiver.bodies[0].complete
    assert taken(receiver.bodies[0]) == b"".join(data for _, data in pieces)
    assert receiver.heads[1].path == b"/next"


MISTAKES = [
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"3\r\nabcX\n0\r\n\r\n",
    b"3\r\nabc\r\n\r\n0\r\n\r\n",
    b"3\nabc\r\n0\r\n\r\n",
    b"+3\r\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\n 3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\nffffffffffffffffff\r\n",
    b"\r\n3\r\nabc\r\n0\r\n\r\n",
    b"3\r\r\nabc\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("body", MISTAKES)
@given(cuts=CUTS)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes, cuts: list[int]) -> None:
    with pytest.raises(Refused):
        fed(HEAD + body + NEXT, cuts)


def outcome(data: bytes, cuts: list[int]) -> tuple[Any, ...]:
    """All that an application, or the next one on the same connection, could see of it."""
    receiver = Receiver()
    refused = False
    try:
        fed(data, cuts, receiver)
    except Refused:
        refused = True
    seen = [(taken(body), body.complete) for body in receiver.bodies]
    return refused, receiver.heads, seen, receiver.ended


PLAIN = st.lists(
    st.sampled_from([b"abc", b"0\r\n\r\n", b"0123456789ab"]).map(plain), max_size=2
).map(b"".join)
ODD = st.sampled_from(
    [
        *(
            b"3\r\nabc\n",
            b"3\r\nabc\r",
            b"3\r\nabc",
            b"3\r\nabcxy",
            b"3\r\nabcx\n",
            b"3\r\nabc\r\n\r\n",
        ),
        *(
            b"3\r\nab\r\n",
            b"3\nabc\r\n",
            b"3\rabc\r\n",
            b"3\r\r\nabc\r\n",
            b"3abc\r\n",
            b"\r\nabc\r\n",
        ),
        *(
            b"3 \r\nabc\r\n",
            b"3\t\r\nabc\r\n",
            b" 3\r\nabc\r\n",
            b"3;a=b\r\nabc\r\n",
            b"3;\r\nabc\r\n",
        ),
        *(
            b"+3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3g\r\nabc\r\n",
            b"-3\r\nabc\r\n",
            b"30\r\nabc\r\n",
        ),
        *(b"00000003\r\nabc\r\n", b"000000003\r\nabc\r\n", b"000000030\r\nabc\r\n"),
        *(b"f0000003\r\nabc\r\n", b"f00000000000000003\r\nabc\r\n", b"3\r\nabc\r\n0\r\n", b""),
    ]
)


@given(PLAIN, ODD, PLAIN, ENDS, CUTS)
def test_llhttp_alone_would_read_the_same(
    before: bytes, odd: bytes, after: bytes, end: bytes, cuts: list[int]
) -> None:
    """However wrong it is: what a balancer and we understand differently is a request smuggled in."""
    data = HEAD + before + odd + after + end + NEXT
    found = outcome(data, cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks.PlainChunks, "feed", to_llhttp)
        assert outcome(data, []) == found


def to_llhttp(self: chunks.PlainChunks, data: memoryview, *, placed: bool) -> memoryview:
    self.unusual = b""
    return data


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_blank_line_in_a_chunk_is_not_the_end_of_a_head_that_was_cut_in_its_own(cut: int) -> None:
    data = b"ab\r\n\r\n5\r\nxyz" * 3
    receiver = fed(HEAD + plain(data) + b"0\r\n\r\n" + NEXT, [len(HEAD) - cut])
    assert taken(receiver.bodies[0]) == data
    assert [head.path for head in receiver.heads] == [b"/v2/a", b"/next"]


def test_a_body_that_is_read_keeps_no_memory() -> None:
    receiver = fed(HEAD + plain(b"abc") + b"0\r\n\r\n", [])
    body = receiver.bodies[0]
    assert taken(body) == b"abc"
    assert not body._block


def test_little_goes_beyond_the_window_even_where_it_shrinks() -> None:
    head = b"PUT /v2/a HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"
    body = fed(head, []).bodies[0]
    body.window = 30_000
    assert len(body.within_window()) == 30_000
    body.copy(memoryview(b"z" * 29_000))
    assert 0 < len(body.within_window()) < 20_000
    body.window = 10
    assert 0 < len(body.within_window()) < 20_000
    assert len(body.room()) == 31_000


@given(cuts=CUTS, size=st.integers(min_value=1, max_value=300_000))
def test_large_chunks_cross_blocks(cuts: list[int], size: int) -> None:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    receiver = fed(HEAD + plain(data) * 2 + b"0\r\n\r\n", [cut * 10 for cut in cuts])
    assert taken(receiver.bodies[0]) == data * 2


def test_chunks_are_received_where_they_are_read_a_batch_to_a_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = Receiver()
    stream = RequestStream(receiver, settings())
    chunk = plain(b"z" * 32 * 1024)
    assert not stream.feed(memoryview(HEAD + chunk + chunk[:1]))
    (body,) = receiver.bodies
    taken(body)
    body.batch, body.window = BATCH, 2 * BATCH
    monkeypatch.delattr(RequestBody, "copy")
    for _ in range(3):
        while not body._enough():
            assert not straight(stream, memoryview(chunk[1:] + chunk[:1]))
        pieces = body._take(BATCH)
        assert BATCH <= sum(map(len, pieces)) < BATCH + len(chunk)
        assert {bytes(piece[:1]) for piece in pieces} == {b"z"}
        assert len({id(piece.obj) for piece in pieces if isinstance(piece, memoryview)}) <= 2
        del pieces
    assert len(receiver.blocks._kept) <= 2


@given(cuts=CUTS)
def test_a_body_with_a_length_ends_where_it_says(cuts: list[int]) -> None:
    head = b"PUT /v2/a HTTP/1.1\r\nHost: a\r\nContent-Length: 70\r\n\r\n"
    receiver = fed(head + b"z" * 70 + NEXT, cuts)
    assert receiver.ended == 2
    assert taken(receiver.bodies[0]) == b"z" * 70


def test_memory_is_used_again_once_nobody_looks_at_it() -> None:
    blocks = Blocks()
    block = blocks.take(BATCH)
    block[:4] = b"mine"
    part = block[2:4]
    del block
    other = blocks.take(BATCH)
    other[:4] = b"else"
    assert bytes(part) == b"ne"
    del part
    again = blocks.take(BATCH)
    assert bytes(again[:4]) == b"mine"
    assert bytes(other[:4]) == b"else"
    assert (len(again), len(blocks.take(7))) == (BATCH, 7)
