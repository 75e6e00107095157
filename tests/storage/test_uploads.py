"""How bytes become a blob: on any process, after any break, never on anybody's word."""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest

from storage import hashing, layout
from storage import uploads as uploads_module
from storage.blobs import BlobMemory, Blobs
from storage.driver import Driver, Reader, Writer
from storage.driver_errors import Busy, Conflict, DriverError, NoSpace
from storage.drivers.memory import MemoryDriver, MemoryReader, MemoryWriter
from storage.model.digest import Digest
from storage.model.errors import (
    DigestInvalid,
    RangeInvalid,
    StorageFull,
    Unavailable,
    UploadUnknown,
)
from storage.model.reference import RepositoryName
from storage.repository import Repository
from storage.upload_session import Progress
from storage.uploads import Uploads

NAME = RepositoryName("team/app")
CONTENT = bytes(range(256)) * 40
DIGEST = Digest.of(CONTENT)


def make(driver: Driver) -> Uploads:
    """As another process would have it: nothing but the storage is shared."""
    return Uploads(driver, NAME, Blobs(driver, NAME, BlobMemory()))


@pytest.fixture
def uploads(driver: Driver) -> Uploads:
    return make(driver)


def append(uploads: Uploads, progress: Progress, *chunks: bytes) -> Progress:
    """One PATCH."""
    with uploads.resume(progress) as session:
        session.append(chunks)
        return session.checkpoint()


def finish(uploads: Uploads, progress: Progress, digest: Digest, *chunks: bytes) -> None:
    """One PUT."""
    with uploads.resume(progress) as session:
        if chunks:
            session.append(chunks)
        uploads.commit(session, digest)


def nothing_left(driver: Driver) -> bool:
    return not list(driver.list(layout.uploads(NAME)))


def stored(driver: Driver, digest: Digest) -> bytes:
    return driver.read(layout.blob(digest))


def test_a_new_upload_is_durable_and_empty(driver: Driver, uploads: Uploads) -> None:
    progress = uploads.start()
    assert uuid.UUID(progress.upload_id).version == 4
    started = driver.read(layout.upload_started(NAME, progress.upload_id)).decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", started)
    assert progress == Progress(progress.upload_id, 0, "sha256", None, started)
    assert make(driver).status(progress.upload_id) == progress
    assert uploads.start("sha512").algorithm == "sha512"


def test_in_one_piece(driver: Driver, uploads: Uploads) -> None:
    finish(uploads, uploads.start(), DIGEST, CONTENT)
    assert stored(driver, DIGEST) == CONTENT
    assert driver.read(layout.layer(NAME, DIGEST)) == str(DIGEST).encode()
    assert nothing_left(driver)


def test_the_empty_blob(driver: Driver, uploads: Uploads) -> None:
    finish(uploads, uploads.start(), Digest.of(b""))
    assert stored(driver, Digest.of(b"")) == b""
    assert nothing_left(driver)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("begun_as", ["sha256", "sha512"])
def test_whatever_algorithm_closes_it(
    driver: Driver, uploads: Uploads, algorithm: str, begun_as: str
) -> None:
    digest = Digest.of(CONTENT, algorithm)
    progress = append(uploads, uploads.start(begun_as), CONTENT[:1000])
    finish(uploads, progress, digest, CONTENT[1000:])
    assert stored(driver, digest) == CONTENT
    assert driver.read(layout.layer(NAME, digest)) == str(digest).encode()


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 200])
def test_each_chunk_in_another_process(driver: Driver, size: int) -> None:
    content = CONTENT[:260]
    progress = make(driver).start()
    for start in range(0, len(content), size):
        progress = append(make(driver), progress, content[start : start + size])
        assert progress.digest == Digest.of(content[: start + size])
        assert progress.offset == len(content[: start + size])
    finish(make(driver), progress, Digest.of(content))
    assert stored(driver, Digest.of(content)) == content


def test_hash_states_are_where_distribution_keeps_them(driver: Driver, uploads: Uploads) -> None:
    progress = append(uploads, uploads.start(), CONTENT[:1000])
    append(uploads, progress, CONTENT[1000:1500])
    states = layout.hash_states(NAME, progress.upload_id, "sha256")
    assert sorted(child.name for child in driver.list(states)) == ["1000", "1500"]
    hasher = hashing.Hasher.resume("sha256", driver.read(f"{states}/1500"))
    assert hasher is not None
    assert hasher.digest() == Digest.of(CONTENT[:1500])


class Counting(MemoryDriver):
    """Counts what is read back of uploads, and what is synced."""

    def __init__(self) -> None:
        super().__init__()
        self.read_back = 0
        self.synced: list[int] = []

    def open_growing(self, key: str) -> MemoryReader:
        counter, reader = self, super().open_growing(key)

        class CountingReader(MemoryReader):
            def __init__(self) -> None:
                self.info = reader.info

            def read_at(self, offset: int, length: int) -> bytes:
                data = reader.read_at(offset, length)
                counter.read_back += len(data)
                return data

            def close(self) -> None:
                reader.close()

        return CountingReader()

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> MemoryWriter:
        writer = super().writer(key, create=create, state=state, final=final)
        counter, sync = self, writer.sync

        def counted() -> None:
            sync()
            counter.synced.append(writer.size)

        writer.sync = counted  # type: ignore[method-assign]  # of this one writer
        return writer


def test_a_single_patch_is_verified_by_its_token() -> None:
    driver = Counting()
    progress = append(make(driver), make(driver).start(), CONTENT)
    driver.delete_tree(layout.hash_states(NAME, progress.upload_id, "sha256"))
    finish(make(driver), progress, DIGEST)
    assert driver.read_back == 0
    assert driver.synced == [len(CONTENT)]


def test_several_patches_are_verified_by_the_hash_state() -> None:
    driver = Counting()
    progress = make(driver).start()
    for start in range(0, len(CONTENT), 1000):
        progress = append(make(driver), progress, CONTENT[start : start + 1000])
    finish(make(driver), replace(progress, digest=None), DIGEST)
    assert driver.read_back == 0


def test_without_states_the_data_are_read_again() -> None:
    driver = Counting()
    progress = append(make(driver), make(driver).start(), CONTENT[:5000])
    driver.delete_tree(layout.hash_states(NAME, progress.upload_id, "sha256"))
    progress = append(make(driver), progress, CONTENT[5000:6000])
    assert progress.digest is None
    finish(make(driver), progress, DIGEST, CONTENT[6000:])
    assert driver.read_back == len(CONTENT)
    assert stored(driver, DIGEST) == CONTENT


def test_from_the_nearest_state_only_the_rest_is_read() -> None:
    driver = Counting()
    progress = make(driver).start()
    for start in (0, 4000, 8000):
        progress = append(make(driver), progress, CONTENT[start : start + 4000])
    driver.delete(layout.hash_state(NAME, progress.upload_id, "sha256", len(CONTENT)))
    finish(make(driver), replace(progress, digest=None), DIGEST)
    assert driver.read_back == len(CONTENT) - 8000


@pytest.mark.parametrize("damage", [b"", b"x" * 108, b"sha\x03" + bytes(104)])
def test_a_damaged_state_is_not_believed(driver: Driver, uploads: Uploads, damage: bytes) -> None:
    progress = append(uploads, uploads.start(), CONTENT[:5000])
    driver.write(layout.hash_state(NAME, progress.upload_id, "sha256", 5000), damage)
    finish(uploads, progress, DIGEST, CONTENT[5000:])
    assert stored(driver, DIGEST) == CONTENT


def test_without_libcrypto(
    driver: Driver, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_libcrypto", None)
    progress = append(uploads, uploads.start(), CONTENT[:5000])
    assert progress.digest == Digest.of(CONTENT[:5000])
    progress = append(uploads, progress, CONTENT[5000:])
    assert progress.digest is None
    finish(uploads, progress, DIGEST)
    assert stored(driver, DIGEST) == CONTENT


def test_bytes_of_which_only_the_size_is_known_are_synced_before_they_are_published() -> None:
    """After a break between the last byte and the sync, a client learns the size by status."""
    driver = Counting()
    uploads = make(driver)
    progress = uploads.start()
    with uploads.resume(progress) as session:
        session.append([CONTENT])
    driver.synced.clear()
    finish(uploads, uploads.status(progress.upload_id), DIGEST)
    assert driver.synced == [len(CONTENT)]


@pytest.mark.parametrize("wrong", [Digest.of(b"other"), Digest.of(b"other", "sha512")])
@pytest.mark.parametrize("in_put", [True, False])
def test_a_wrong_digest_stores_nothing_and_the_upload_goes_on(
    driver: Driver, uploads: Uploads, wrong: Digest, in_put: bool
) -> None:
    progress = uploads.start()
    if not in_put:
        progress = append(uploads, progress, CONTENT)
    with pytest.raises(DigestInvalid) as caught:
        finish(uploads, progress, wrong, *([CONTENT] if in_put else []))
    assert str(wrong) in caught.value.message
    for digest in (wrong, DIGEST):
        assert not list(driver.list(layout.layer_directory(NAME, digest)))
    assert not list(driver.list(layout.BLOBS))
    finish(uploads, uploads.status(progress.upload_id), DIGEST)
    assert stored(driver, DIGEST) == CONTENT


@pytest.mark.parametrize("offset", [0, 1, 999, 1001, 5000])
def test_chunks_cannot_overlap_leave_gaps_or_be_repeated(
    driver: Driver, uploads: Uploads, offset: int
) -> None:
    progress = append(uploads, uploads.start(), CONTENT[:1000])
    with pytest.raises(RangeInvalid) as caught:
        uploads.resume(replace(progress, offset=offset, digest=None))
    assert caught.value.offset == 1000
    assert uploads.status(progress.upload_id).offset == 1000
    finish(uploads, progress, DIGEST, CONTENT[1000:])
    assert stored(driver, DIGEST) == CONTENT


def test_one_writer_at_a_time(
    driver: Driver, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_module, "BUSY_PATIENCE", 0.05)
    progress = uploads.start()
    with uploads.resume(progress) as session:
        session.append([CONTENT[:10]])
        with pytest.raises(RangeInvalid) as caught:
            make(driver).resume(progress)
        assert caught.value.offset == 10
        session.append([CONTENT[10:]])
        assert session.checkpoint().digest == DIGEST


def test_a_writer_that_is_about_to_go_is_waited_for(driver: Driver, uploads: Uploads) -> None:
    progress = uploads.start()
    session = uploads.resume(progress)
    timer = threading.Timer(0.2, session.close)
    timer.start()
    make(driver).resume(progress).close()
    timer.join()


def test_a_refused_resume_lets_go_of_the_upload(uploads: Uploads) -> None:
    progress = append(uploads, uploads.start(), CONTENT[:10])
    for _ in range(2):
        with pytest.raises(RangeInvalid):
            uploads.resume(replace(progress, offset=0))
    uploads.resume(progress).close()


def test_unknown_uploads(uploads: Uploads, driver: Driver) -> None:
    absent = str(uuid.uuid4())
    for ask in (uploads.status, uploads.cancel, lambda name: uploads.resume(Progress(name))):
        with pytest.raises(UploadUnknown):
            ask(absent)
    elsewhere = Uploads(driver, RepositoryName("other"), Blobs(driver, NAME, BlobMemory())).start()
    with pytest.raises(UploadUnknown):
        uploads.status(elsewhere.upload_id)


def test_cancel(driver: Driver, uploads: Uploads) -> None:
    progress = append(uploads, uploads.start(), CONTENT)
    uploads.cancel(progress.upload_id)
    assert nothing_left(driver)
    for ask in (uploads.status, uploads.cancel):
        with pytest.raises(UploadUnknown):
            ask(progress.upload_id)
    with pytest.raises(UploadUnknown):
        uploads.resume(progress)


def test_cancelled_while_it_is_finished(driver: Driver, uploads: Uploads) -> None:
    progress = uploads.start()
    with uploads.resume(progress) as session:
        session.append([CONTENT])
        uploads.cancel(progress.upload_id)
        with pytest.raises(UploadUnknown):
            uploads.commit(session, DIGEST)
    assert not list(driver.list(layout.BLOBS))


def test_the_same_blob_by_two_uploads(driver: Driver, uploads: Uploads) -> None:
    first, second = (append(uploads, uploads.start(), CONTENT) for _ in range(2))
    finish(uploads, first, DIGEST)
    finish(uploads, second, DIGEST)
    assert stored(driver, DIGEST) == CONTENT
    assert nothing_left(driver)


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_a_push_mends_a_stored_blob_of_another_size(
    driver: Driver, uploads: Uploads, damaged: bytes
) -> None:
    driver.write(layout.blob(DIGEST), damaged)
    finish(uploads, uploads.start(), DIGEST, CONTENT)
    assert stored(driver, DIGEST) == CONTENT


def test_a_closing_request_may_be_repeated(uploads: Uploads) -> None:
    progress = append(uploads, uploads.start(), CONTENT)
    finish(uploads, progress, DIGEST)
    with pytest.raises(UploadUnknown):
        uploads.resume(progress)
    assert uploads.finished(progress, DIGEST)
    assert not uploads.finished(progress, Digest.of(b"other"))


def test_repeated_after_death_between_publication_and_link(
    driver: Driver, uploads: Uploads
) -> None:
    progress = append(uploads, uploads.start(), CONTENT)
    with uploads.resume(progress) as session:
        session.publish(layout.blob(DIGEST))
    assert not uploads._blobs.has(DIGEST)
    with pytest.raises(UploadUnknown):
        uploads.resume(progress)
    assert uploads.finished(progress, DIGEST)
    assert uploads._blobs.has(DIGEST)
    assert nothing_left(driver)


def test_repeated_in_one_piece_after_death_between_publication_and_link(
    driver: Driver, uploads: Uploads
) -> None:
    progress = uploads.start()
    with uploads.resume(progress) as session:
        session.append([CONTENT])
        assert session.verify(DIGEST) == DIGEST
        session.publish(layout.blob(DIGEST))
    finish(uploads, progress, DIGEST, CONTENT)
    assert uploads._blobs.has(DIGEST)
    assert nothing_left(driver)


def test_content_of_others_is_not_had_by_claiming_it(driver: Driver, uploads: Uploads) -> None:
    """Who never sent the bytes has no progress that proves them."""
    driver.write(layout.blob(DIGEST), CONTENT)
    progress = uploads.start()
    uploads.cancel(progress.upload_id)
    for claim in (
        progress,
        replace(progress, offset=len(CONTENT)),
        replace(progress, offset=5, digest=Digest.of(CONTENT[:5])),
        replace(progress, offset=5, digest=DIGEST),
    ):
        assert not uploads.finished(claim, DIGEST)
    assert not uploads._blobs.has(DIGEST)


class FaultyWriter:
    """A writer whose storage has so much room, and whose sync may fail."""

    def __init__(self, writer: MemoryWriter, driver: Faulty) -> None:
        self._writer = writer
        self._driver = driver

    @property
    def size(self) -> int:
        return self._writer.size

    @property
    def state(self) -> str:
        return self._writer.state

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        for chunk in chunks:
            self._writer.append([chunk[: self._driver.room]])
            if len(chunk) > self._driver.room:
                self._driver.room = 0
                raise NoSpace("full")
            self._driver.room -= len(chunk)

    def sync(self) -> None:
        if self._driver.sync_fails:
            raise DriverError("EIO")
        self._writer.sync()

    def publish(self, key: str) -> None:
        self._writer.publish(key)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> FaultyWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Faulty(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.room = 10**9
        self.sync_fails = False
        self.fails: tuple[str, ...] = ()

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> Writer:  # type: ignore[override]  # a writer it is
        return FaultyWriter(super().writer(key, create=create, state=state, final=final), self)

    def write(self, key: str, data: bytes) -> None:
        if any(part in key for part in self.fails):
            raise DriverError("EIO")
        super().write(key, data)

    def delete_tree(self, prefix: str) -> None:
        if "delete_tree" in self.fails:
            raise DriverError("EIO")
        super().delete_tree(prefix)

    def open_growing(self, key: str) -> Reader:  # type: ignore[override]  # a reader it is
        return super().open_growing(key)


def faulty(driver: Faulty) -> Uploads:
    return make(driver)


@pytest.mark.parametrize("room", [0, 1, 700, 5000])
def test_a_full_storage_keeps_what_fitted_and_the_upload_goes_on(room: int) -> None:
    driver = Faulty()
    uploads = faulty(driver)
    progress = uploads.start()
    driver.room = room
    with uploads.resume(progress) as session:
        with pytest.raises(StorageFull):
            session.append([CONTENT[:1000], CONTENT[1000:8000], CONTENT[8000:]])
        assert session.size == room
    assert uploads.status(progress.upload_id).offset == room
    driver.room = 10**9
    finish(uploads, uploads.status(progress.upload_id), DIGEST, CONTENT[room:])
    assert driver.read(layout.blob(DIGEST)) == CONTENT


def test_the_hash_is_of_what_was_kept() -> None:
    driver = Faulty()
    uploads = faulty(driver)
    progress = uploads.start()
    driver.room = 1500
    with uploads.resume(progress) as session:
        with pytest.raises(StorageFull):
            session.append([CONTENT[:1000], CONTENT[1000:2000]])
        kept = session.checkpoint()
    assert kept.offset == 1500
    assert kept.digest == Digest.of(CONTENT[:1500])


def test_after_a_failed_sync_the_upload_is_given_up() -> None:
    driver = Faulty()
    uploads = faulty(driver)
    progress = uploads.start()
    driver.sync_fails = True
    with uploads.resume(progress) as session:
        session.append([CONTENT])
        with pytest.raises(Unavailable):
            uploads.commit(session, DIGEST)
    driver.sync_fails = False
    assert not list(driver.list(layout.BLOBS))
    with pytest.raises(UploadUnknown):
        uploads.status(progress.upload_id)


def test_a_link_that_fails_is_made_by_the_same_request_again() -> None:
    driver = Faulty()
    uploads = faulty(driver)
    progress = append(uploads, uploads.start(), CONTENT)
    driver.fails = ("_layers",)
    with pytest.raises(Unavailable):
        finish(uploads, progress, DIGEST)
    assert not uploads._blobs.has(DIGEST)
    driver.fails = ()
    with pytest.raises(UploadUnknown):
        uploads.resume(progress)
    assert uploads.finished(progress, DIGEST)
    assert uploads._blobs.has(DIGEST)


def test_a_state_that_cannot_be_kept_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    driver = Faulty()
    uploads = faulty(driver)
    driver.fails = ("hashstates",)
    with caplog.at_level(logging.WARNING):
        progress = append(uploads, uploads.start(), CONTENT[:10])
    assert "hash state" in caplog.text
    finish(uploads, progress, DIGEST, CONTENT[10:])
    assert driver.read(layout.blob(DIGEST)) == CONTENT


def test_a_session_that_cannot_be_cleared_away_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = Faulty()
    uploads = faulty(driver)
    driver.fails = ("delete_tree",)
    with caplog.at_level(logging.WARNING):
        finish(uploads, uploads.start(), DIGEST, CONTENT)
    assert "not cleared away" in caplog.text
    assert uploads._blobs.has(DIGEST)


def test_a_repository_has_its_own(repository: Repository) -> None:
    finish(repository.uploads, repository.uploads.start(), DIGEST, CONTENT)
    assert repository.blobs.stat(DIGEST).size == len(CONTENT)


class Contended(MemoryDriver):
    """Another request creates the data, and has it, just when this one is about to."""

    def __init__(self, how: type[DriverError]) -> None:
        super().__init__()
        self.how: type[DriverError] | None = how

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> MemoryWriter:
        if create and self.how is not None:
            how, self.how = self.how, None
            super().writer(key, create=True).close()
            raise how("another was faster")
        return super().writer(key, create=create, state=state, final=final)


@pytest.mark.parametrize("how", [Conflict, Busy])
def test_two_first_chunks_at_once(how: type[DriverError]) -> None:
    uploads = make(Contended(how))
    finish(uploads, uploads.start(), DIGEST, CONTENT)
    assert uploads._blobs.has(DIGEST)
