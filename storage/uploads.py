"""Uploads: how bytes become a blob.

    start -> (resume -> append... -> checkpoint)* -> resume -> append... -> commit

Every step may happen in another process. What goes between them is `Progress`, which the client
carries (signed, see registry/upload_tokens.py) and the storage confirms:

- `offset` must equal the size of the data, or the step is refused: chunks cannot overlap, leave a gap
  or be repeated. One writer at a time is the driver's promise.
- `digest`, if known, is that of the first `offset` bytes. It is given out only after those bytes are
  durable, so a commit that adds nothing is verified without reading them again.
- A checkpoint also leaves the hash state in the storage, so that the next chunk goes on hashing where
  another process stopped. If it is missing, the data are read again from the nearest older state.

A commit is: data durable, digest verified, published under the digest, layer link, then the session is
cleared away. Death in between leaves garbage, never a name without content; and the client's retry
of the same request succeeds, because `digest` proves what was sent even when the data have moved on.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from storage import layout
from storage.blobs import Blobs
from storage.driver import Busy, Conflict, Driver, DriverError, ObjectNotFound, Writer
from storage.hashing import Hasher
from storage.model.digest import CANONICAL, Digest
from storage.model.errors import DigestInvalid, RangeInvalid, UploadUnknown
from storage.model.reference import RepositoryName
from storage.translation import translated

log = logging.getLogger("holdfast.storage")

READ_SIZE = 1024 * 1024
SMALL_CHUNK = 128 * 1024
"""Bytes; chunks that are smaller on average cost less to copy together than to hash one by one."""
BUSY_PATIENCE = 2.0
"""Seconds to wait for a writer whose client has gone and whose worker has yet to notice."""


@dataclass(frozen=True, slots=True)
class Progress:
    upload_id: str
    offset: int = 0
    algorithm: str = CANONICAL
    digest: Digest | None = None
    started: str = ""


def unknown() -> UploadUnknown:
    return UploadUnknown(
        "There is no such upload in this repository: it was finished, cancelled, or removed for its "
        "age. Start a new one with POST."
    )


class Uploads:
    """The uploads of one repository."""

    def __init__(self, driver: Driver, name: RepositoryName, blobs: Blobs) -> None:
        self._driver = driver
        self._name = name
        self._blobs = blobs

    @translated
    def start(self, algorithm: str = CANONICAL) -> Progress:
        """A new upload, durable: a restart does not forget it."""
        upload_id = str(uuid.uuid4())
        started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._driver.write(layout.upload_started(self._name, upload_id), started.encode("ascii"))
        return Progress(upload_id, algorithm=algorithm, started=started)

    @translated
    def status(self, upload_id: str) -> Progress:
        """What the storage holds, whoever wrote it. Raises UploadUnknown."""
        started = self._started(upload_id)
        return Progress(upload_id, offset=self._size(upload_id), started=started)

    @translated
    def resume(self, progress: Progress) -> Session:
        """Become the one writer of an upload. Raises UploadUnknown, RangeInvalid."""
        started = self._started(progress.upload_id)
        writer = self._writer(progress)
        try:
            if writer.size != progress.offset:
                raise _misplaced(progress.offset, writer.size)
            return Session(self._driver, self._name, replace(progress, started=started), writer)
        except BaseException:
            writer.close()
            raise

    @translated
    def commit(self, session: Session, expected: Digest) -> None:
        """Verify what was sent and make it a blob of the repository.

        Ends the session if it succeeds. Raises DigestInvalid, and the upload can go on; whatever
        else goes wrong, the same commit may be tried again.
        """
        actual = session.verify(expected)
        if actual != expected:
            raise DigestInvalid(
                f"The content sent has the digest {actual}, not {expected}. Nothing was stored as "
                "a blob; send the right digest, or the content anew.",
                {"expected": str(expected), "actual": str(actual)},
            )
        session.publish(layout.blob(expected))
        self._blobs.link(expected)
        self.clear(session.progress.upload_id)

    @translated
    def finished(self, progress: Progress, expected: Digest) -> bool:
        """Whether a commit that is repeated has nothing left to do, its first try having done it.

        True if the blob is in the repository, or if the client sent it before, as its progress
        proves, and it was published but not yet linked: then it is linked now.
        """
        if self._blobs.has(expected):
            self.clear(progress.upload_id)
            return True
        if progress.digest != expected or progress.offset == 0:
            return False
        try:
            size = self._driver.stat(layout.blob(expected)).size
        except ObjectNotFound:
            return False
        if size != progress.offset:
            return False
        self._blobs.link(expected)
        self.clear(progress.upload_id)
        return True

    @translated
    def cancel(self, upload_id: str) -> None:
        """Forget an upload and its bytes. Raises UploadUnknown."""
        self._started(upload_id)
        self._driver.delete_tree(layout.upload(self._name, upload_id))

    def clear(self, upload_id: str) -> None:
        """Remove what a finished upload leaves. A failure is only logged: the purge comes by later."""
        try:
            self._driver.delete_tree(layout.upload(self._name, upload_id))
        except DriverError as error:
            log.warning("upload %s of %s was not cleared away: %s", upload_id, self._name, error)

    def _started(self, upload_id: str) -> str:
        try:
            content = self._driver.read(layout.upload_started(self._name, upload_id), length=64)
        except ObjectNotFound:
            raise unknown() from None
        return content.decode("ascii", "replace")

    def _size(self, upload_id: str) -> int:
        try:
            return self._driver.stat_growing(layout.upload_data(self._name, upload_id)).size
        except ObjectNotFound:
            return 0

    def _writer(self, progress: Progress) -> Writer:
        """The data begin with the first byte, not with the session: an empty upload has none."""
        key = layout.upload_data(self._name, progress.upload_id)
        patience = time.monotonic() + BUSY_PATIENCE
        while True:
            try:
                return self._driver.writer(key, create=False)
            except ObjectNotFound:
                if progress.offset:
                    raise unknown() from None
                try:
                    return self._driver.writer(key, create=True)
                except (Conflict, Busy):  # another request was faster to create or to take it
                    continue
            except Busy:
                if time.monotonic() > patience:
                    raise RangeInvalid(
                        "Another request is writing to this upload. Ask for its status, and go on "
                        "from there.",
                        offset=self._size(progress.upload_id),
                    ) from None
                time.sleep(0.02)


def _misplaced(start: int, size: int) -> RangeInvalid:
    return RangeInvalid(
        f"The upload has {size} bytes, so the next chunk begins at {size}, not at {start}.",
        offset=size,
    )


class Session:
    """An upload while one request writes to it. Not thread-safe, though it may move between threads."""

    def __init__(
        self, driver: Driver, name: RepositoryName, progress: Progress, writer: Writer
    ) -> None:
        self._driver = driver
        self._name = name
        self._writer = writer
        self._hasher: Hasher | None = None
        self._begun = False
        # An offset alone is only what status() saw; that much may not have reached the disk.
        self._synced = progress.offset if progress.digest is not None else 0
        self.progress = progress

    @property
    def size(self) -> int:
        return self._writer.size

    @translated
    def append(self, chunks: Sequence[bytes]) -> None:
        """Hash and store. After StorageFull or Unavailable the upload holds what `size` says."""
        if not self._begun:
            self._begun = True
            self._hasher = self._take_up(self.progress.algorithm, exactly=True)
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
            self._leave_state(hasher)
        self.progress = replace(self.progress, offset=self.size, digest=digest)
        return self.progress

    def verify(self, expected: Digest) -> Digest:
        """The digest, in the algorithm of `expected`, of all that the upload holds."""
        self._sync()
        known = self.progress.digest
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


def _hash(hasher: Hasher, chunks: Sequence[bytes], length: int) -> None:
    for chunk in chunks:
        if length <= 0:
            break
        hasher.update(chunk if len(chunk) <= length else chunk[:length])
        length -= len(chunk)
