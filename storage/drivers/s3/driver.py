"""The driver `s3`: what `storage/driver.py` promises, each method in a few requests."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from storage.driver import Anything, Child, Leaf, ObjectInfo, Reader, check_key
from storage.driver_errors import ObjectNotFound, Unavailable
from storage.drivers.plain import (
    any_listed,
    leaves_by_walking,
    names_by_listing,
    read_each_leaf,
)
from storage.drivers.s3 import deleting, growing, listing
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.discarding import SignedDeletes
from storage.drivers.s3.reading import S3Reader, open_object, read_object
from storage.drivers.s3.settings import S3Settings
from storage.drivers.s3.swapping import Swaps
from storage.drivers.s3.workshop import Workshop
from storage.drivers.s3.writing import S3Writer, take_up


class S3Driver:
    """A `storage.driver.Driver`. Made without a request; close() it to lose no deletion.

    It differs from the contract where a store does: Busy is known of writers in this process only;
    swap() is as exact between nodes as the store's conditions are; a reader of more than a window
    fails with Unavailable, and never mixes bytes, if its object is replaced or deleted.
    """

    name = "s3"
    remote = True

    def __init__(
        self, settings: S3Settings, *, tmp: str = "docker/registry/v2/holdfast/tmp"
    ) -> None:
        self._bucket = Bucket(settings)
        self._workshop = Workshop(settings, self._bucket)
        self._swaps = Swaps(self._bucket)
        self._tmp = check_key(tmp)

    def stat(self, key: str) -> ObjectInfo:
        return self._bucket.head(check_key(key))

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return read_object(self._bucket, check_key(key), offset, length)

    def open(self, key: str) -> S3Reader:
        return open_object(self._bucket, check_key(key))

    def write(self, key: str, data: bytes) -> None:
        self._bucket.put(check_key(key), data)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        self._swaps.swap(check_key(key), data, expected)

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> S3Writer:
        if final:
            check_key(final)
        return take_up(self._workshop, key, create=create, state=state, final=final)

    def stat_growing(self, key: str) -> ObjectInfo:
        found = self._look(key)
        modified = max((chunk.modified for chunk in found.every), default=0.0)
        return ObjectInfo(key, found.size, modified)

    def open_growing(self, key: str) -> Reader:
        found = self._look(key)
        modified = max((chunk.modified for chunk in found.every), default=0.0)
        return growing.GrowingReader(self._bucket, key, found.path, modified)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        return listing.children(self._bucket, _below(prefix), after, self._workshop.collector)

    def has_children(self, prefix: str) -> bool:
        return any_listed(self, prefix)

    def edition(self, prefix: str) -> None:
        """Nothing tells."""

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return listing.walk(self._bucket, _below(prefix), self._workshop.collector, after)

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        return leaves_by_walking(self, prefix, leaf)

    def names(self, prefix: str) -> Sequence[str]:
        return names_by_listing(self, prefix)

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        return read_each_leaf(self, prefix, names, leaf, length=length)

    def delete(self, key: str) -> None:
        self.stat(key)
        self._bucket.delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        deleting.delete_many(self._bucket, map(check_key, keys))

    def delete_tree(self, prefix: str) -> None:
        below = f"{check_key(prefix)}/"
        self._workshop.writers.delete_below(below)
        deleting.delete_below(self._bucket, below)

    def delete_later(self, keys: Iterable[str]) -> None:
        """As delete_many(), within seconds, in requests shared with others; or never, if this dies.

        For listings of this process they are gone at once and for good: only for keys that nobody will
        write again.
        """
        self._workshop.collector.add([check_key(key) for key in keys])

    def prune(self, prefix: str) -> None:
        check_key(prefix)

    def presign(self, key: str, *, lifetime: int, patient: bool = True) -> str | None:
        return self._bucket.presign(check_key(key), lifetime, patient=patient)

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    def immediate(self) -> None:
        return None

    def check(self) -> None:
        key = f"{self._tmp}/probe-{secrets.token_hex(8)}"
        data = secrets.token_bytes(16)
        self._bucket.put(key, data)
        try:
            if self.read(key) != data:
                raise Unavailable(f"check: s3://{self._bucket.name}/{key} reads other than written")
        except ObjectNotFound as error:
            raise Unavailable(f"check: what was put is not there: {error}") from error
        finally:
            self._bucket.delete(key)

    discards_expire = True

    def begin_discards(self, batch: str) -> None:
        check_key(batch)

    def discarder(self, batch: str, *, since: float, lifetime: float) -> SignedDeletes:
        check_key(batch)
        return SignedDeletes(self._bucket, since, lifetime)

    def end_discards(self, batch: str) -> None:
        check_key(batch)

    def forget_discards(self, batch: str) -> None:
        check_key(batch)

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        check_key(key)
        return False

    def abort_unfinished(self, prefix: str, *, before: float) -> int:
        return deleting.abort_stale(self._bucket, _below(prefix), before)

    def flush(self) -> None:
        """Remove now what is to be removed a little later."""
        self._workshop.flush()

    def close(self) -> None:
        """flush(), and end the threads. Idempotent; the driver is of no use afterwards."""
        self._workshop.close()

    def _look(self, key: str) -> growing.Found:
        check_key(key)
        try:
            return growing.look(self._bucket, key, self._workshop.collector)
        except ObjectNotFound:
            taken = self._workshop.writers.find(key)
            if taken is None:
                raise
            return growing.Found((), (growing.Chunk(key, 0, 0, taken.opened),))


def _below(prefix: str) -> str:
    return f"{check_key(prefix)}/" if prefix else ""
