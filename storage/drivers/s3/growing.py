"""What a growing object is made of: chunks, which are objects that nobody ever changes.

    <key>/<start>-<nonce>      start: 20 digits, the bytes before it; nonce: 16 hex digits, by chance

Each writer that appended something left one chunk. A store has no lock to keep two nodes from appending
to one upload at the same place; but since neither changes what the other wrote, each holds a whole
object with the bytes it was sent, and whichever is published was verified. `state` is a path through the
chunks, and what one writer handed to the next. Whoever has no state takes the path that reaches furthest.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from storage.driver import STATE_LIMIT, ObjectInfo
from storage.driver_errors import ObjectNotFound
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.reading import S3Reader

_NAME = re.compile(r"([0-9]{20})-([0-9a-f]{16})", re.ASCII)
_STATE = re.compile(r"v1:[0-9a-f]{16}\.[0-9a-z]{1,12}(,[0-9a-f]{16}\.[0-9a-z]{1,12})*", re.ASCII)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Chunk:
    key: str  # of the chunk itself
    start: int
    size: int
    modified: float = field(default=0.0, compare=False)

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def nonce(self) -> str:
        return self.key[-16:]


@dataclass(frozen=True, slots=True)
class Found:
    """What a listing says: the path that reaches furthest, and every chunk, on it or not."""

    path: tuple[Chunk, ...]
    every: tuple[Chunk, ...]

    @property
    def size(self) -> int:
        return self.path[-1].end if self.path else 0


def chunk_key(key: str, start: int) -> str:
    """A new one."""
    return f"{key}/{start:020d}-{secrets.token_hex(8)}"


def chunk_of(key: str, info: ObjectInfo) -> Chunk | None:
    """The chunk of the growing object `key` that this object is."""
    match = _NAME.fullmatch(info.key, len(key) + 1)
    return Chunk(info.key, int(match[1]), info.size, info.modified) if match else None


def path_through(chunks: Iterable[Chunk]) -> tuple[Chunk, ...]:
    """Chunks that follow each other without a gap from 0 on, as far as they go.

    Of two that end at one place, and of two paths there, every node takes the same.
    """
    arrived: dict[int, Chunk | None] = {0: None}
    for chunk in sorted(chunks, key=lambda chunk: chunk.key):
        if chunk.size and chunk.start in arrived:
            arrived.setdefault(chunk.end, chunk)
    path: list[Chunk] = []
    last = arrived[max(arrived)]
    while last is not None:
        path.append(last)
        last = arrived[last.start]
    return tuple(reversed(path))


def look(bucket: Bucket, key: str, doomed: Container[str] = ()) -> Found:
    """One listing of `<key>/`, less the chunks about to be removed. Raises ObjectNotFound."""
    every = []
    for page in bucket.pages(f"{key}/"):
        for info in page.objects:
            chunk = chunk_of(key, info)
            if chunk is not None and info.key not in doomed:
                every.append(chunk)
    if not every:
        raise ObjectNotFound(f"{key}: there is no such object")
    return Found(path_through(every), tuple(every))


def exists(bucket: Bucket, key: str, doomed: Container[str] = ()) -> bool:
    """Whether `key` is an object, finished or growing."""
    for page in bucket.pages(key):
        for info in page.objects:
            if info.key == key:
                return True
            if info.key.startswith(f"{key}/") and info.key not in doomed:
                return True
            if info.key > f"{key}/~":
                return False
    return False


def state_of(chunks: Sequence[Chunk]) -> str:
    """For chunks_of(); "" if there are none, or more than a state can name."""
    state = "v1:" + ",".join(f"{chunk.nonce}.{_base36(chunk.size)}" for chunk in chunks)
    return state if chunks and len(state) <= STATE_LIMIT else ""


def chunks_of(key: str, state: str) -> tuple[Chunk, ...]:
    """The path that a state names; empty if it is none."""
    if len(state) > STATE_LIMIT or not _STATE.fullmatch(state):
        return ()
    chunks = []
    start = 0
    for part in state[3:].split(","):
        nonce, _, size = part.partition(".")
        chunks.append(Chunk(f"{key}/{start:020d}-{nonce}", start, int(size, 36)))
        start = chunks[-1].end
    return tuple(chunks)


def agrees(chunks: Sequence[Chunk], found: Found) -> bool:
    """Whether what a state names is all there, and nothing was appended to it since."""
    end = chunks[-1].end
    there = {chunk.key for chunk in found.every}
    return all(chunk.key in there for chunk in chunks) and not any(
        chunk.start >= end and chunk.size for chunk in found.every
    )


class GrowingReader:
    """A `storage.driver.Reader` of chunks one after the other."""

    def __init__(self, bucket: Bucket, key: str, chunks: Sequence[Chunk], modified: float) -> None:
        self.info = ObjectInfo(key, chunks[-1].end if chunks else 0, modified)
        self._readers = [
            (chunk, S3Reader(bucket, ObjectInfo(chunk.key, chunk.size, chunk.modified)))
            for chunk in chunks
        ]

    def read_at(self, offset: int, length: int) -> bytes:
        parts = []
        for chunk, reader in self._readers:
            if chunk.end > offset and chunk.start < offset + length:
                begin = max(offset - chunk.start, 0)
                parts.append(reader.read_at(begin, offset + length - chunk.start - begin))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fileno(self) -> None:
        return None

    def close(self) -> None:
        for _, reader in self._readers:
            reader.close()


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
