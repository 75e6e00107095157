"""Compare-and-swap on a store that may have conditions, or call them by other names, or have none.

Each swap reads, compares, and writes on the condition that nothing has changed: If-None-Match: * for a
creation, If-Match with the ETag for the rest. Of the stores tried, Amazon's and most others heed both on
PUT; Ceph before 20 wants the ETag without its quotes; a few ignore them, and many ignore If-Match on
DELETE. So between nodes a swap is exact where the store heeds conditions. Elsewhere the time between
reading and writing, some milliseconds, is open to another node, and the last writer wins; within one
process it is always exact.
"""

from __future__ import annotations

import threading
from enum import Enum

from storage.driver import Anything
from storage.driver_errors import Conflict, ObjectNotFound
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.errors import ConditionRefused, Unsupported
from storage.drivers.s3.reading import read_version
from storage.per_process import PerProcess

_STRIPES = 64


class _Form(Enum):
    """How the store wants an ETag in If-Match."""

    QUOTED = "quoted"
    BARE = "bare"
    NONE = "none"

    def of(self, etag: str) -> str | None:
        if self is _Form.NONE or not etag:
            return None
        return etag if self is _Form.QUOTED else etag.strip('"')


class Swaps:
    """The swaps of one process."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._locks = PerProcess(lambda: [threading.Lock() for _ in range(_STRIPES)])
        self._creates = True  # until the store says that it does not know If-None-Match
        self._forms = {"PUT": _Form.QUOTED, "DELETE": _Form.QUOTED}

    def swap(self, key: str, data: bytes | None, expected: bytes | None | Anything) -> None:
        """As `Driver.swap`."""
        with self._locks.get()[hash(key) % _STRIPES]:
            if isinstance(expected, Anything):
                if data is None:
                    self._bucket.delete(key)
                else:
                    self._bucket.put(key, data)
                return
            held, etag = self._version(key)
            if held != expected:
                raise _refused(key)
            if held is None:
                if data is not None:
                    self._create(key, data)
            else:
                self._replace(key, data, held, etag)

    def _create(self, key: str, data: bytes) -> None:
        if self._creates:
            try:
                self._bucket.put(key, data, absent=True)
                return
            except ConditionRefused as error:
                if error.retried and self._version(key)[0] == data:
                    return  # the attempt whose answer was lost did it
                raise _refused(key) from error
            except Unsupported:
                self._creates = False
        self._bucket.put(key, data)

    def _replace(self, key: str, data: bytes | None, held: bytes, etag: str) -> None:
        """With the ETag in one form after the other until the store takes one."""
        method = "DELETE" if data is None else "PUT"
        while True:
            form = self._forms[method]
            try:
                self._act(key, data, form.of(etag))
                return
            except ObjectNotFound as error:  # If-Match of what is no longer there
                raise _refused(key) from error
            except Unsupported:
                if form is _Form.NONE:
                    raise
                self._forms[method] = _Form.NONE
            except ConditionRefused as error:
                now, etag_now = self._version(key)
                if error.retried and now == data:
                    return
                if (now, etag_now) != (held, etag) or form is not _Form.QUOTED:
                    raise _refused(key) from error
                self._act_bare(key, data, etag, method)
                return

    def _act_bare(self, key: str, data: bytes | None, etag: str, method: str) -> None:
        """Nothing changed, and yet it was refused: a store that compares the quotes too."""
        try:
            self._act(key, data, _Form.BARE.of(etag))
        except (ConditionRefused, ObjectNotFound) as error:
            raise _refused(key) from error
        self._forms[method] = _Form.BARE

    def _act(self, key: str, data: bytes | None, etag: str | None) -> None:
        if data is None:
            self._bucket.delete(key, etag=etag)
        else:
            self._bucket.put(key, data, etag=etag)

    def _version(self, key: str) -> tuple[bytes | None, str]:
        try:
            return read_version(self._bucket, key)
        except ObjectNotFound:
            return None, ""


def _refused(key: str) -> Conflict:
    return Conflict(f"swap {key}: it holds another value than expected")
