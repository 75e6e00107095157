"""The writer of a growing object.

What is appended gathers in memory until it is a part's worth, or two where memory is plenty. If that is
all there is by the next sync(), it becomes a chunk by one PUT; if more comes, a multipart upload begins
whose completion is the chunk. A writer that was told what its object is to become does without a chunk:
it sends the bytes there, and publish() makes them visible.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from storage.driver import check_key
from storage.driver_errors import (
    Conflict,
    DriverError,
    InvalidKey,
    ObjectNotFound,
    Overloaded,
    Unavailable,
)
from storage.drivers.s3.growing import (
    Chunk,
    agrees,
    chunk_key,
    chunks_of,
    exists,
    look,
    state_of,
)
from storage.drivers.s3.memory import FREE, WIDE
from storage.drivers.s3.multipart import IN_FLIGHT, WIDE_IN_FLIGHT, MultipartUpload
from storage.drivers.s3.publishing import complete_final, publish
from storage.drivers.s3.workshop import Taken, Workshop

log = logging.getLogger("holdfast.storage.s3")


class S3Writer:
    """A `storage.driver.Writer`. Closed without publish(), it keeps what was appended if it can.

    `chunks` is the object so far; `others` are what else is to be removed with it.
    """

    def __init__(
        self,
        workshop: Workshop,
        taken: Taken,
        chunks: Sequence[Chunk] = (),
        *,
        others: Sequence[str] = (),
        created: bool = False,
        final: str = "",
    ) -> None:
        self._workshop = workshop
        self._taken = taken
        self._chunks = [*chunks]
        self._others = others
        self._created = created
        self._final = final
        self._durable = chunks[-1].end if chunks else 0
        self._size = self._durable
        self._buffer: list[memoryview] = []
        self._buffered = 0
        self._granted = 0
        self._wide = False
        self._upload: MultipartUpload | None = None
        self._unusable = ""

    @property
    def size(self) -> int:
        return self._size

    @property
    def state(self) -> str:
        return state_of(self._chunks)

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        self._require_usable()
        try:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    if self._buffered == self._part_size() and not self._widen():
                        self._send()
                    piece = rest[: self._part_size() - self._buffered]
                    self._reserve(len(piece))
                    self._buffer.append(piece)
                    self._buffered += len(piece)
                    self._size += len(piece)
                    rest = rest[len(piece) :]
        except Overloaded:
            raise
        except DriverError:
            self._spoil()
            raise

    def sync(self) -> None:
        self._require_usable()
        if self._taken.deleted:
            raise ObjectNotFound(f"write to {self._taken.key}: it was deleted meanwhile")
        if not self._final:
            self._make_chunk()

    def publish(self, key: str) -> None:
        self._require_usable()
        check_key(key)
        if self._final not in ("", key):
            raise InvalidKey(f"publish as {key}: the writer was opened for {self._final}")
        if self._taken.deleted:
            raise ObjectNotFound(f"publish {self._taken.key}: it was deleted meanwhile")
        if self._upload is not None and self._straight:
            self._complete_final(self._upload)
        else:
            if self._upload is not None or not self._final:
                self._make_chunk()
            publish(self._workshop, self._chunks, b"".join(self._buffer), key)
        self._workshop.collector.add(
            {chunk.key: None for chunk in self._chunks} | dict.fromkeys(self._others)
        )
        self._end("it has published its object")

    def close(self) -> None:
        if not self._unusable and not self._taken.deleted and not self._final:
            try:
                if self._size != self._durable:
                    self._make_chunk()
                elif self._created and not self._chunks:
                    self._mark()
            except DriverError as error:
                log.warning("what was appended to %s is lost: %s", self._taken.key, error)
        self._end(self._unusable or "it is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _straight(self) -> bool:
        """Whether a multipart upload of this writer is that of the finished object."""
        return bool(self._final) and not self._chunks

    def _part_size(self) -> int:
        return self._workshop.settings.chunksize * (WIDE if self._wide else 1)

    def _widen(self) -> bool:
        """Make the parts larger if none has been sent: all but the last must have one size."""
        if self._wide or self._upload is not None:
            return False
        self._wide = self._workshop.budget.widen(self._workshop.settings.chunksize)
        return self._wide

    def _narrow(self) -> None:
        if self._wide:
            self._wide = False
            self._workshop.budget.narrow()

    def _reserve(self, count: int) -> None:
        wanted = self._buffered + count
        while wanted > max(self._granted, FREE):
            self._workshop.budget.take(self._workshop.settings.chunksize)
            self._granted += self._workshop.settings.chunksize

    def _send(self) -> None:
        """The buffer as a part, the upload being begun if it is the first."""
        if self._upload is None:
            key = chunk_key(self._taken.key, self._durable)
            if self._straight:
                key = self._final
            self._upload = MultipartUpload(
                self._workshop.bucket,
                self._workshop.senders,
                key,
                in_flight=WIDE_IN_FLIGHT if self._wide else IN_FLIGHT,
            )
        data = b"".join(self._buffer)
        granted, self._granted = self._granted, 0
        self._clear_buffer()
        self._upload.send(data, lambda: self._workshop.budget.give_back(granted))

    def _make_chunk(self) -> None:
        """All that is not in a chunk yet."""
        if self._size == self._durable:
            return
        size = self._size - self._durable
        try:
            if self._upload is not None:
                self._send()
                key = self._upload.key
                self._upload.complete(size)
                self._upload = None
            else:
                key = chunk_key(self._taken.key, self._durable)
                self._workshop.bucket.put(key, b"".join(self._buffer))
                self._clear_buffer()
                self._release()
        except DriverError:
            self._spoil()
            raise
        self._narrow()
        self._chunks.append(Chunk(key, self._durable, size))
        self._durable = self._size
        if self._taken.deleted:  # while this was being written
            self._workshop.collector.add([key])
            raise ObjectNotFound(f"write to {self._taken.key}: it was deleted meanwhile")

    def _mark(self) -> None:
        """An empty chunk, which says that the object exists."""
        self._workshop.bucket.put(chunk_key(self._taken.key, 0), b"")

    def _complete_final(self, upload: MultipartUpload) -> None:
        try:
            self._send()
            complete_final(self._workshop, upload, self._size)
        except DriverError:
            self._spoil()
            raise

    def _require_usable(self) -> None:
        if self._unusable:
            raise Unavailable(f"the writer of {self._taken.key} cannot go on: {self._unusable}")

    def _spoil(self) -> None:
        """Give up what is not durable: nobody knows which parts of it the store has."""
        self._size = self._durable
        self._end("the store failed to take what was appended", let_go=False)

    def _end(self, why: str, *, let_go: bool = True) -> None:
        self._unusable = why
        self._clear_buffer()
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.abort()
        self._release()
        self._narrow()
        if let_go:
            self._workshop.writers.let_go(self._taken)

    def _clear_buffer(self) -> None:
        self._buffer = []
        self._buffered = 0

    def _release(self) -> None:
        granted, self._granted = self._granted, 0
        if granted:
            self._workshop.budget.give_back(granted)


def take_up(workshop: Workshop, key: str, *, create: bool, state: str, final: str) -> S3Writer:
    """Raises what `Driver.writer` does; Busy only of writers in this process."""
    taken = workshop.writers.take(check_key(key))
    try:
        return _take_up(workshop, taken, create=create, state=state, final=final)
    except BaseException:
        workshop.writers.let_go(taken)
        raise


def _take_up(workshop: Workshop, taken: Taken, *, create: bool, state: str, final: str) -> S3Writer:
    key = taken.key
    doomed = workshop.collector
    if create:
        if not final and exists(workshop.bucket, key, doomed):
            raise Conflict(f"write to {key}: the object exists already")
        return S3Writer(workshop, taken, created=True, final=final)
    chunks = chunks_of(key, state)
    if chunks and final:
        return S3Writer(workshop, taken, chunks, final=final)
    found = look(workshop.bucket, key, doomed)
    if not chunks or not agrees(chunks, found):
        chunks = found.path
    others = [chunk.key for chunk in found.every]
    return S3Writer(workshop, taken, chunks, others=others, final=final)
