"""One upload while one request writes to it: bytes are stored and hashed as they come.

Hashing goes on where the request before stopped, in whatever process that was: from the hash state that
it left, in the storage or (where storage is remote, and a file would cost a request) in what the client
carries. If neither is there, the data are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from storage import layout
from storage.driver import Driver, Writer
from storage.driver_errors import DriverError, ObjectNotFound
from storage.hashing import Hasher
from storage.model.digest import CANONICAL, Digest
from storage.model.errors import UploadUnknown
from storage.model.reference import RepositoryName
from storage.translation import translated

log = logging.getLogger("holdfast.storage")

READ_SIZE = 1024 * 1024
SMALL_CHUNK = 16 * 1024
"""Bytes; chunks that are smaller on average cost less to copy together than to hash one by one."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an upload stands, as the client carries it from one request to the next."""

    upload_id: str
    offset: int = 0
    algorithm: str = CANONICAL
    digest: Digest | None = None
    started: str = ""
    state: str = ""
    """The driver's own (see `storage.driver.Writer.state`)."""
    hash_state: bytes = b""
    """As Hasher.export() gives it, of the first `offset` bytes."""


def unknown() -> UploadUnknown:
    return UploadUnknown(
        "There is no such upload in this repository: it was finished, cancelled, or removed for its "
        "age. Start a new one with POST."
    )


class Session:
    """An upload while one request writes to it. Not thread-safe, though it may move between threads."""

    def __init__(
        self,
        driver: Driver,
        name: RepositoryName,
        progress: Progress,
        writer: Writer,
        final: Digest | None = None,
    ) -> None:
        """With `final`, the session ends in a commit as that digest, or what it appends may be lost."""
        self._driver = driver
        self._name = name
        self._writer = writer
        self._hasher: Hasher | None = None
        self._begun = False
        # An offset alone is only what status() saw; that much may not have reached the disk.
        self._synced = progress.offset if progress.digest is not None else 0
        self._algorithm = progress.algorithm if final is None else final.algorithm
        self.progress = progress

    @property
    def size(self) -> int:
        return self._writer.size

    @translated
    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Hash and store. After StorageFull or Unavailable the upload holds what `size` says."""
        if not self._begun:
            self._begun = True
            self._hasher = self._take_up(self._algorithm, exactly=True)
            if self._hasher is None and self._driver.remote:
                # What is appended now may be out of reach until it is published.
                self._hasher = self._read_again(self._algorithm)
        if sum(map(len, chunks)) < len(chunks) * SMALL_CHUNK:
            chunks = [b"".join(chunks)]
        before = self._writer.size
        try:
            self._writer.append(chunks)
        finally:
            if self._hasher is not None:
                _hash(self._hasher, chunks, self._writer.size - before)

    @translated
    def checkpoint(self) -> Progress:
        """Make what came so far durable, and say how to go on from it, here or elsewhere."""
        self._sync()
        hasher = self._hasher
        digest = self.progress.digest if self.size == self.progress.offset else None
        if hasher is not None and hasher.length == self.size:
            digest = hasher.digest()
            if not self._driver.remote:
                self._leave_state(hasher)
        self.progress = replace(
            self.progress,
            offset=self.size,
            digest=digest,
            state=self._writer.state,
            hash_state=self._carried(hasher),
        )
        return self.progress

    def verify(self, expected: Digest) -> Digest:
        """The digest, in the algorithm of `expected`, of all that the upload holds."""
        self._sync()
        known = self._known
        if known is not None and known.algorithm == expected.algorithm and not self._grown:
            return known
        hasher = self._hasher
        if hasher is None or hasher.algorithm != expected.algorithm or hasher.length != self.size:
            hasher = self._read_again(expected.algorithm)
        return hasher.digest()

    def publish(self, key: str) -> None:
        try:
            self._writer.publish(key)
        except ObjectNotFound:
            raise unknown() from None

    def close(self) -> None:
        """Never fails: closing promises nothing, and what was promised before is kept."""
        try:
            self._writer.close()
        except DriverError as error:
            log.warning("upload %s was not let go of: %s", self.progress.upload_id, error)

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
    def _known(self) -> Digest | None:
        """The digest that the progress gives, if it is surely that of the bytes which are there.

        Where two requests can write at once (storage is remote), that is so only along with the state
        that names the bytes.
        """
        progress = self.progress
        return None if self._driver.remote and not progress.state else progress.digest

    def _carried(self, hasher: Hasher | None) -> bytes:
        if hasher is None or not self._driver.remote or hasher.length != self.size:
            return b""
        return hasher.export() or b""

    @property
    def _grown(self) -> bool:
        return self._writer.size != self.progress.offset

    def _sync(self) -> None:
        """After a failed sync nobody can tell what is on the disk, and a second one would say "all of
        it": the upload is given up, and the client starts anew.
        """
        if self._synced == self._writer.size != 0:
            return
        try:
            self._writer.sync()
        except DriverError:
            if not self._driver.remote:  # there, what was synced before is an object of its own
                self._driver.delete_tree(layout.upload(self._name, self.progress.upload_id))
            raise
        self._synced = self._writer.size

    def _leave_state(self, hasher: Hasher) -> None:
        """Best effort: without it the data are read again."""
        state = hasher.export()
        if state is None:
            return
        key = layout.hash_state(
            self._name, self.progress.upload_id, hasher.algorithm, hasher.length
        )
        try:
            self._driver.write(key, state)
        except DriverError as error:
            log.warning("hash state of upload %s not kept: %s", self.progress.upload_id, error)

    def _take_up(self, algorithm: str, *, exactly: bool) -> Hasher | None:
        """The hash of the data up to here, or of as many as an older state covers."""
        if self.progress.offset == 0 and exactly:
            return Hasher(algorithm)
        carried = self._resumed(algorithm)
        if carried is not None or self._driver.remote:
            return carried
        prefix = layout.hash_states(self._name, self.progress.upload_id, algorithm)
        offsets = (
            [self.progress.offset]
            if exactly
            else sorted(
                (
                    int(child.name)
                    for child in self._driver.list(prefix)
                    if child.name.isdecimal() and 0 < int(child.name) <= self.size
                ),
                reverse=True,
            )
        )
        for offset in offsets:
            try:
                state = self._driver.read(f"{prefix}/{offset}", length=1024)
            except ObjectNotFound:
                continue
            hasher = Hasher.resume(algorithm, state)
            if hasher is not None and hasher.length == offset:
                return hasher
        return None if exactly else Hasher(algorithm)

    def _resumed(self, algorithm: str) -> Hasher | None:
        progress = self.progress
        if not (progress.hash_state and progress.state and algorithm == progress.algorithm):
            return None
        hasher = Hasher.resume(algorithm, progress.hash_state)
        return hasher if hasher is not None and hasher.length == progress.offset else None

    def _read_again(self, algorithm: str) -> Hasher:
        hasher = self._take_up(algorithm, exactly=False) or Hasher(algorithm)
        if hasher.length == self.size:
            return hasher
        key = layout.upload_data(self._name, self.progress.upload_id)
        reader = self._driver.open_growing(key)
        try:
            while data := reader.read_at(hasher.length, READ_SIZE):
                hasher.update(data)
        finally:
            reader.close()
        return hasher


def _hash(hasher: Hasher, chunks: Sequence[bytes | memoryview], length: int) -> None:
    for chunk in chunks:
        if length <= 0:
            break
        hasher.update(chunk if len(chunk) <= length else chunk[:length])
        length -= len(chunk)
