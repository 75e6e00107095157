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
from dataclasses import replace
from datetime import UTC, datetime

from storage import layout
from storage.blobs import Blobs
from storage.cache import Cache
from storage.collection import entries
from storage.collection.guard import Guard
from storage.driver import Driver, Writer
from storage.driver_errors import Busy, Conflict, DriverError, ObjectNotFound
from storage.model.digest import CANONICAL, Digest
from storage.model.errors import BlobUnknown, DigestInvalid, RangeInvalid
from storage.model.reference import RepositoryName
from storage.translation import translated
from storage.upload_session import Progress, Session, unknown

log = logging.getLogger("holdfast.storage")

BUSY_PATIENCE = 2.0
"""Seconds to wait for a writer whose client has gone and whose worker has yet to notice."""
ENDED_REMEMBERED = 10_000


def ended_uploads() -> Cache[str, bool]:
    """The memory of one store: uploads that ended in this process."""
    return Cache(ENDED_REMEMBERED)


class Uploads:
    """The uploads of one repository."""

    def __init__(
        self,
        driver: Driver,
        name: RepositoryName,
        blobs: Blobs,
        ended: Cache[str, bool] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard or Guard(driver)
        self._driver = driver
        self._name = name
        self._blobs = blobs
        self._ended = ended_uploads() if ended is None else ended

    @translated
    def start(self, algorithm: str = CANONICAL) -> Progress:
        """A new upload, durable: a restart does not forget it."""
        upload_id = str(uuid.uuid4())
        started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if not self._driver.remote:
            key = layout.upload_started(self._name, upload_id)
            self._driver.write(key, started.encode("ascii"))
        return Progress(upload_id, algorithm=algorithm, started=started)

    @translated
    def status(self, upload_id: str, *, begun: bool = False) -> Progress:
        """What the storage holds, whoever wrote it. Raises UploadUnknown.

        `begun`: the caller has proof that the upload was started. Without it, one that has no byte
        yet is unknown to a remote storage.
        """
        started = self._started(upload_id)
        size = self._size(upload_id)
        if self._driver.remote and size == 0 and (not begun or self._is_cancelled(upload_id)):
            raise unknown()
        return Progress(upload_id, offset=size, started=started)

    @translated
    def resume(self, progress: Progress, final: Digest | None = None) -> Session:
        """Become the one writer of an upload. Raises UploadUnknown, RangeInvalid.

        `final` says that the session ends in a commit as that digest; if it does not, what it
        appended may be lost.
        """
        started = self._started(progress.upload_id) or progress.started
        writer = self._writer(progress, "" if final is None else layout.blob(final))
        try:
            if writer.size != progress.offset:
                raise _misplaced(progress.offset, writer.size)
            progress = replace(progress, started=started)
            return Session(self._driver, self._name, progress, writer, final)
        except BaseException:
            writer.close()
            raise

    @translated
    def commit(self, session: Session, expected: Digest) -> None:
        """Verify what was sent and make it a blob of the repository.

        Ends the session if it succeeds. Raises DigestInvalid, and the upload can go on; Doomed, or
        whatever else goes wrong, and the same commit may be tried again.
        """
        actual = session.verify(expected)
        if actual != expected:
            raise DigestInvalid(
                f"The content sent has the digest {actual}, not {expected}. Nothing was stored as "
                "a blob; send the right digest, or the content anew.",
                {"expected": str(expected), "actual": str(actual)},
            )
        reliance = self._guard.rely([entries.blob(expected)])
        session.publish(layout.blob(expected))
        if reliance.tight:  # a store takes its time to put large content together
            self._blobs.adopt(expected)
        else:
            self._blobs.link(expected)
            reliance.confirm()
        self._end(session.progress.upload_id)

    @translated
    def finished(self, progress: Progress, expected: Digest) -> bool:
        """Whether a commit that is repeated has nothing left to do, its first try having done it.

        True if the blob is in the repository, or if the client sent it before, as its progress
        proves, and it was published but not yet linked: then it is linked now.
        """
        reliance = self._guard.rely([entries.blob(expected)])
        if self._blobs.has(expected):
            reliance.confirm()
            self._end(progress.upload_id)
            return True
        if progress.digest != expected or progress.offset == 0:
            return False
        try:
            if self._driver.stat(layout.blob(expected)).size != progress.offset:
                return False
            self._blobs.adopt(expected)
        except (ObjectNotFound, BlobUnknown):
            return False
        self._end(progress.upload_id)
        return True

    @translated
    def cancel(self, upload_id: str) -> None:
        """Forget an upload and its bytes. Raises UploadUnknown."""
        self._started(upload_id)
        self._driver.delete_tree(layout.upload(self._name, upload_id))
        if self._driver.remote:
            self._driver.write(layout.upload_cancelled(self._name, upload_id), b"")
            self._ended.put(upload_id, True)

    def clear(self, upload_id: str) -> None:
        """Remove what an upload leaves. A failure is only logged: the purge comes by later."""
        try:
            self._driver.delete_tree(layout.upload(self._name, upload_id))
        except DriverError as error:
            log.warning("upload %s of %s was not cleared away: %s", upload_id, self._name, error)

    def _end(self, upload_id: str) -> None:
        if self._driver.remote:  # whose driver removes by itself what it has published
            self._ended.put(upload_id, True)
        else:
            self.clear(upload_id)

    def _is_cancelled(self, upload_id: str) -> bool:
        try:
            self._driver.stat(layout.upload_cancelled(self._name, upload_id))
        except ObjectNotFound:
            return False
        return True

    def _started(self, upload_id: str) -> str:
        """When, for those who ask; a remote storage is not asked: the client carries what is known."""
        if self._driver.remote:
            if self._ended.get(upload_id):
                raise unknown()
            return ""
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

    def _writer(self, progress: Progress, final: str) -> Writer:
        """The data begin with the first byte, not with the session: an empty upload has none."""
        if self._driver.remote:
            return self._remote_writer(progress, final)
        key = layout.upload_data(self._name, progress.upload_id)
        patience = time.monotonic() + BUSY_PATIENCE
        while True:
            try:
                return self._driver.writer(key, create=False, final=final)
            except ObjectNotFound:
                if progress.offset:
                    raise unknown() from None
                try:
                    return self._driver.writer(key, create=True, final=final)
                except (Conflict, Busy):  # another request was faster to create or to take it
                    continue
            except Busy:
                if time.monotonic() > patience:
                    raise self._occupied(progress) from None
                time.sleep(0.02)

    def _remote_writer(self, progress: Progress, final: str) -> Writer:
        key = layout.upload_data(self._name, progress.upload_id)
        create = progress.offset == 0
        try:
            return self._driver.writer(key, create=create, state=progress.state, final=final)
        except ObjectNotFound:
            raise unknown() from None
        except Conflict:
            raise _misplaced(0, self._size(progress.upload_id)) from None
        except Busy:
            raise self._occupied(progress) from None

    def _occupied(self, progress: Progress) -> RangeInvalid:
        return RangeInvalid(
            "Another request is writing to this upload. Ask for its status, and go on from there.",
            offset=self._size(progress.upload_id),
        )


def _misplaced(start: int, size: int) -> RangeInvalid:
    return RangeInvalid(
        f"The upload has {size} bytes, so the next chunk begins at {size}, not at {start}.",
        offset=size,
    )
