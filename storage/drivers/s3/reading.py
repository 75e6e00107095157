"""The reader of an object: its first window with the opening request, all that follows in one stream.

A small object costs one request. A large one that is read from end to end costs two, however many
read_at() that takes; reads here and there cost one each. A connection that breaks is taken up where
it broke. The object is asked for by its ETag from the second request on, so bytes of two versions are
never mixed.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from storage.driver import ObjectInfo
from storage.driver_errors import ObjectNotFound, Unavailable
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.errors import ConditionRefused, OutOfRange, Vanished

if TYPE_CHECKING:
    from botocore.response import StreamingBody

WINDOW = 1024 * 1024
FARTHEST = 2**53
"""Beyond any object's end; a number that stores still understand."""

_TRIES = 4
_BROKEN = (BotoCoreError, HTTPError, OSError)
_STEP = 1024 * 1024


class S3Reader:
    """A `storage.driver.Reader`; `info` is that of the moment of opening.

    It stays readable when the object is replaced or deleted as far as the first window goes, and the
    stream that is open then; beyond these it raises Unavailable.
    """

    def __init__(
        self, bucket: Bucket, info: ObjectInfo, *, etag: str = "", window: bytes = b""
    ) -> None:
        self.info = info
        self._bucket = bucket
        self.etag = etag
        self._window = window
        self._lock = threading.Lock()
        self._stream: StreamingBody | None = None
        self._position = len(window)  # where the stream is, or where the last read ended
        self._closed = False

    def read_at(self, offset: int, length: int) -> bytes:
        if self._closed:
            raise Unavailable(f"read {self.info.key}: the reader is closed")
        end = min(offset + length, self.info.size)
        if offset >= end:
            return b""
        if end <= len(self._window):
            return self._window[offset:end]
        kept = self._window[offset:]
        start = offset + len(kept)
        with self._lock:
            if start == self._position:
                fresh = self._read_on(start, end)
            else:
                self._drop_stream()
                fresh = self._read_once(start, end)
                self._position = end
        return kept + fresh if kept else fresh

    def fileno(self) -> None:
        return None

    def close(self) -> None:
        self._closed = True
        with self._lock:
            self._drop_stream()

    def _read_on(self, start: int, end: int) -> bytes:
        """From the stream, opened or opened anew where it must be."""
        parts: list[bytes] = []
        failures = 0
        while start < end:
            try:
                if self._stream is None:
                    self._stream = self._fetch(start, None)
                part = self._stream.read(min(end - start, _STEP))
                if not part:
                    raise OSError("the store ended its answer too soon")
            except _BROKEN as error:
                self._drop_stream()
                failures = self._after(failures, start, error)
                continue
            failures = 0
            parts.append(part)
            start += len(part)
            self._position = start
        if start == self.info.size:
            self._drop_stream()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_once(self, start: int, end: int) -> bytes:
        failures = 0
        while True:
            body = self._fetch(start, end - start)
            try:
                data = body.read(end - start)
                if len(data) != end - start:
                    raise OSError("the store ended its answer too soon")
            except _BROKEN as error:
                failures = self._after(failures, start, error)
            else:
                return data
            finally:
                body.close()

    def _fetch(self, start: int, length: int | None) -> StreamingBody:
        key = self.info.key
        try:
            return self._bucket.get(key, start, length, etag=self.etag).body
        except (ObjectNotFound, ConditionRefused, OutOfRange) as error:
            raise Vanished(f"read {key}: it was replaced or deleted meanwhile") from error

    def _after(self, failures: int, start: int, error: Exception) -> int:
        if failures + 1 == _TRIES:
            where = f"s3://{self._bucket.name}/{self._bucket.full(self.info.key)}"
            raise Unavailable(f"read {where} from byte {start}: {error}") from error
        time.sleep(0.05 * 4**failures)
        return failures + 1

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def open_object(bucket: Bucket, key: str) -> S3Reader:
    """Raises ObjectNotFound."""
    for attempt in range(_TRIES):
        try:
            fetched = bucket.get(key, 0, WINDOW)
        except OutOfRange:  # it is empty
            return S3Reader(bucket, bucket.head(key))
        try:
            window = fetched.body.read(WINDOW)
        except _BROKEN as error:
            if attempt + 1 == _TRIES:
                raise Unavailable(f"open {key}: {error}") from error
            continue
        finally:
            fetched.body.close()
        if len(window) == min(fetched.info.size, WINDOW):
            return S3Reader(bucket, fetched.info, etag=fetched.etag, window=window)
    raise Unavailable(f"open {key}: the store ended its answer too soon, {_TRIES} times")


def read_version(bucket: Bucket, key: str) -> tuple[bytes, str]:
    """All of a small object, and its ETag. Raises ObjectNotFound."""
    reader = open_object(bucket, key)
    return reader.read_at(0, reader.info.size), reader.etag


def read_object(bucket: Bucket, key: str, offset: int, length: int | None) -> bytes:
    """As `Driver.read`, of one version of the object, in one request."""
    if length == 0 or offset >= FARTHEST:
        bucket.head(key)
        return b""
    if length is not None:
        length = min(length, FARTHEST)
    for attempt in range(_TRIES):
        try:
            fetched = bucket.get(key, offset, length)
        except OutOfRange:
            return b""
        expected = max(fetched.info.size - offset, 0)
        if length is not None:
            expected = min(expected, length)
        try:
            data = fetched.body.read(expected)
        except _BROKEN as error:
            if attempt + 1 == _TRIES:
                raise Unavailable(f"read {key}: {error}") from error
            continue
        finally:
            fetched.body.close()
        if len(data) == expected:
            return data
    raise Unavailable(f"read {key}: the store ended its answer too soon, {_TRIES} times")
