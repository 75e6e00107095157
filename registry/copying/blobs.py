"""Blobs, each hashed while it is copied and visible at the target only when it is what it is called."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import closing
from typing import IO, Final

from registry_gc.blob_listing import list_blobs
from registry_gc.spill import SHARDS

from registry.copying.crew import Crew, said_of
from registry.copying.progress import Progress
from registry.copying.report import Report
from storage import layout
from storage.driver import Driver, Reader
from storage.driver_errors import Busy, DriverError, ObjectNotFound, Unavailable
from storage.hashing import Hasher
from storage.model.digest import Digest

log = logging.getLogger("holdfast.copying")

READ: Final = 4 * 1024 * 1024


class Lost(Exception):
    """The source has no such content, or other content under its name. A sentence about it."""

    def __init__(self, digest: Digest, sentence: str, *, rotten: bool = False) -> None:
        super().__init__(sentence)
        self.digest = digest
        self.rotten = rotten


class Plan:
    """Which blobs the target lacks, in a temporary file, so that their number is no matter.

    A blob of another size than the source's is damaged, and lacking too.
    """

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115
        self.blobs = self.bytes = 0
        """Lacking."""
        self.all_blobs = self.all_bytes = 0

    def draw_up(self, source: Driver, target: Driver, pool: Executor) -> None:
        """Raises the drivers' errors. One shard of each is in memory at a time."""
        there, here = list_blobs(source, pool, 0), list_blobs(target, pool, 0)
        for shard in range(SHARDS):
            sizes = {blob.digest: blob.size for blob in here.shard(shard)}
            for digest, size, _ in there.shard(shard):
                self.all_blobs += 1
                self.all_bytes += size
                if sizes.get(digest) != size:
                    self.blobs += 1
                    self.bytes += size
                    self._file.write(f"{digest}\n")

    def lacking(self) -> Iterator[Digest]:
        self._file.seek(0)
        for line in self._file:
            yield Digest.parse(line.rstrip("\n"))

    def close(self) -> None:
        self._file.close()


class Blobs:
    """Thread-safe."""

    def __init__(
        self,
        source: Driver,
        target: Driver,
        crew: Crew,
        report: Report,
        progress: Progress,
        *,
        read_back: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._crew = crew
        self._report = report
        self._progress = progress
        self._read_back = read_back
        self._rotten: dict[Digest, Lost] = {}

    def is_there(self, digest: Digest) -> bool:
        """At the target, where nothing has a blob's name before it is whole."""
        try:
            self._target.stat(layout.blob(digest))
        except ObjectNotFound:
            return False
        return True

    def copy(self, digest: Digest) -> None:
        """Raises Lost, and the drivers' errors."""
        if digest in self._rotten:
            raise self._rotten[digest]
        try:
            reader = self._source.open(layout.blob(digest))
        except ObjectNotFound:
            raise Lost(digest, f"the source does not have {digest}") from None
        with closing(reader):
            staging = f"{layout.COPYING}/{uuid.uuid4().hex}"
            final = layout.blob(digest)
            try:
                with self._target.writer(staging, create=True, final=final) as writer:
                    found = self._hash(reader, digest.algorithm, writer.append)
                    if found != digest:
                        raise self._rot(digest, found)
                    writer.sync()
                    writer.publish(final)
            except BaseException:  # Ctrl-C, too, leaves no half of a blob behind
                self._clear(staging)
                raise
            self._confirm(digest, reader.info.size)
        self._report.count(copied_blobs=1, copied_bytes=reader.info.size)

    def copy_planned(self, digest: Digest) -> None:
        """As copy(); what cannot be copied is a problem that is reported."""
        try:
            self._crew.patiently(lambda: self.copy(digest))
        except Lost as lost:
            if lost.rotten:
                self._report.problem(f"A blob is left out: {lost}.")
        except DriverError as error:
            self._report.problem(f"The blob {digest} could not be copied: {said_of(error)}.")
        self._progress.item()

    def remove_leftovers(self) -> None:
        """What copies that were killed had written under no name of a blob. Those at work keep theirs."""
        for child in list(self._target.list(layout.COPYING)):
            key = f"{layout.COPYING}/{child.name}"
            try:
                self._target.writer(key, create=False).close()
                self._target.delete(key)
            except (Busy, ObjectNotFound):
                continue

    def _hash(
        self, reader: Reader, algorithm: str, take: Callable[[list[bytes]], None] | None = None
    ) -> Digest:
        hasher = Hasher(algorithm)
        while data := reader.read_at(hasher.length, READ):
            self._crew.check()
            hasher.update(data)
            if take is not None:
                take([data])
                self._progress.bytes(len(data))
        return hasher.digest()

    def _confirm(self, digest: Digest, size: int) -> None:
        """That the target has what it was given. Raises Unavailable."""
        key = layout.blob(digest)
        held = self._target.stat(key).size
        if held != size:
            raise Unavailable(f"{key} was written with {size} bytes, and has {held} at the target")
        if not self._read_back:
            return
        with closing(self._target.open(key)) as reader:
            found = self._hash(reader, digest.algorithm)
        if found != digest:
            raise Unavailable(f"{key} was written whole, and reads as {found} at the target")

    def _clear(self, staging: str) -> None:
        """The first error is the one to tell; what stays is cleared away by the next copy."""
        try:
            self._target.delete_tree(staging)
            self._target.delete_many([staging])
        except DriverError as error:
            log.warning("%s stays for now: %s", staging, error)

    def _rot(self, digest: Digest, found: Digest) -> Lost:
        lost = Lost(
            digest,
            f"the content of {digest} at the source is {found}, not what it is called",
            rotten=True,
        )
        self._rotten[digest] = lost
        return lost
