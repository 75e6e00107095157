"""One request each, on keys below the root directory; the place where S3's own names end.

Every object is made with the same type, encryption, storage class and ACL, as CNCF Distribution makes
it, whether it is put, copied or assembled of parts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from storage.driver import ObjectInfo
from storage.driver_errors import ObjectNotFound, Unavailable, WouldBlock
from storage.drivers.s3.asking import Asker
from storage.drivers.s3.client import make_client, make_session, make_signer
from storage.drivers.s3.errors import Denied, Unsupported, storage_errors
from storage.drivers.s3.presigning import Presigner
from storage.drivers.s3.settings import S3Settings
from storage.per_process import PerProcess

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3.client import S3Client

BATCH = 1000
"""Keys in one page of a listing, and in one DeleteObjects: S3's maximum of both."""

_CONFIRMED_FOR = 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a GET: `body` begins at the offset asked for."""

    info: ObjectInfo
    etag: str
    body: StreamingBody
    length: int


@dataclass(frozen=True, slots=True)
class Page:
    objects: Sequence[ObjectInfo]
    prefixes: Sequence[str]


class Bucket:
    """Every method raises DriverError, and blocks until the store has answered or will not."""

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self.name = settings.bucket
        self._root = settings.root
        self._session = PerProcess(lambda: make_session(settings))
        self._client = PerProcess(lambda: make_client(settings, self._session.get()))
        self._asker = PerProcess(self._make_asker)
        self._presigner = PerProcess(self._make_presigner)
        self._confirmed = float("-inf")

    @property
    def client(self) -> S3Client:
        return self._client.get()

    def full(self, key: str) -> str:
        return self._root + key

    def bare(self, full_key: str) -> str:
        return full_key[len(self._root) :]

    def options(self) -> dict[str, Any]:
        """What every object is made with."""
        settings = self.settings
        options: dict[str, Any] = {}
        if settings.encrypt:
            options["ServerSideEncryption"] = "aws:kms" if settings.keyid else "AES256"
        if settings.keyid:
            options["SSEKMSKeyId"] = settings.keyid
        if settings.storageclass.upper() not in ("", "NONE"):
            options["StorageClass"] = settings.storageclass
        if settings.objectacl not in ("", "none", "private"):
            options["ACL"] = settings.objectacl
        return options

    def head(self, key: str) -> ObjectInfo:
        try:
            with storage_errors("HeadObject", self.name, self.full(key)):
                answer = self._asker.get().head(key)
        except ObjectNotFound:
            self._confirm()
            raise
        return _info(key, answer.length, answer.modified)

    def get(
        self, key: str, offset: int = 0, length: int | None = None, *, etag: str = ""
    ) -> Fetched:
        """Raises OutOfRange if the object ends at `offset` or before; ConditionRefused by `etag`.

        `length` may be more than there is. With `offset` 0 and no length no range is asked for.
        """
        span = ""
        if offset or length is not None:
            span = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        with storage_errors("GetObject", self.name, self.full(key)):
            answer, body = self._asker.get().get(key, span=span, etag=etag)
        size = answer.length
        if span:
            sent, _, total = answer.content_range.rpartition("/")
            if total.isdecimal() and sent.startswith(f"bytes {offset}-"):
                size = int(total)
            elif offset or sent:
                body.close()
                raise Unavailable(
                    f"GetObject s3://{self.name}/{self.full(key)}: asked for bytes from {offset}, "
                    f"the store answered with {sent or 'the whole object'!r}"
                )
        info = _info(key, size, answer.modified)
        return Fetched(info, answer.etag, body, answer.length)

    def put(self, key: str, data: bytes, *, absent: bool = False, etag: str | None = None) -> str:
        """The new ETag. `absent`: only if there is no object; `etag`: only if it is that one.

        Raises ConditionRefused, or Unsupported by a store that knows no conditions.
        """
        conditions: dict[str, Any] = {}
        if absent:
            conditions["IfNoneMatch"] = "*"
        if etag is not None:
            conditions["IfMatch"] = etag
        with storage_errors("PutObject", self.name, self.full(key)):
            answer = self.client.put_object(
                Bucket=self.name,
                Key=self.full(key),
                Body=data,
                ContentLength=len(data),
                ContentType="application/octet-stream",
                **self.options(),
                **conditions,
            )
        return answer.get("ETag", "")

    def copy(self, source: str, target: str) -> None:
        """Raises ObjectNotFound if there is no `source`. Some stores say so of what they cannot copy."""
        with storage_errors("CopyObject", self.name, self.full(target)):
            answer = self.client.copy_object(
                Bucket=self.name,
                Key=self.full(target),
                CopySource={"Bucket": self.name, "Key": self.full(source)},
                **self.options(),
            )
        if "CopyObjectResult" not in answer:
            raise Unsupported(f"CopyObject s3://{self.name}/{self.full(target)}: it says nothing")

    def delete(self, key: str, *, etag: str | None = None) -> None:
        """Also succeeds where there is nothing. `etag` as for put(), where the store heeds it."""
        condition: dict[str, Any] = {} if etag is None else {"IfMatch": etag}
        with storage_errors("DeleteObject", self.name, self.full(key)):
            self.client.delete_object(Bucket=self.name, Key=self.full(key), **condition)

    def delete_all(self, keys: Sequence[str]) -> None:
        """At most BATCH keys; those absent already are passed over."""
        if not keys:
            return
        with storage_errors("DeleteObjects", self.name, self.full(keys[0])):
            answer = self.client.delete_objects(
                Bucket=self.name,
                Delete={"Objects": [{"Key": self.full(key)} for key in keys], "Quiet": True},
            )
        failed = [e for e in answer.get("Errors", []) if e.get("Code") != "NoSuchKey"]
        if failed:
            first = failed[0]
            raise Unavailable(
                f"DeleteObjects s3://{self.name}: {len(failed)} of {len(keys)} not deleted, first "
                f"{first.get('Key')}: {first.get('Code')} {first.get('Message', '')}".rstrip()
            )

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "") -> Iterator[Page]:
        """The objects whose key begins with `prefix`, after the key `after`, in the order of bytes.

        With a delimiter, keys that have it beyond `prefix` are told by what comes before it.
        """
        options: dict[str, Any] = {"Prefix": self.full(prefix), "MaxKeys": BATCH}
        if after:
            options["StartAfter"] = self.full(after)
        if delimiter:
            options["Delimiter"] = delimiter
        while True:
            with storage_errors("ListObjectsV2", self.name, self.full(prefix)):
                answer = self.client.list_objects_v2(Bucket=self.name, **options)
            yield Page(
                [
                    ObjectInfo(
                        self.bare(item["Key"]),
                        item["Size"],
                        item["LastModified"].timestamp(),
                        item.get("ETag", "").strip('"'),
                    )
                    for item in answer.get("Contents", [])
                ],
                [self.bare(item["Prefix"]) for item in answer.get("CommonPrefixes", [])],
            )
            token = answer.get("NextContinuationToken")
            if not answer.get("IsTruncated") or not token:
                return
            options["ContinuationToken"] = token

    def presign(self, key: str, lifetime: int, *, patient: bool = True) -> str:
        """Computed here, without asking the store. As Driver.presign()."""
        presigner = self._presigner.get() if patient else self._presigner.peek()
        if presigner is None:
            raise WouldBlock("nothing was signed yet")
        with storage_errors("presign", self.name, self.full(key)):
            return presigner.url(key, lifetime, patient=patient)

    def _make_asker(self) -> Asker:
        client = self.client  # a session must not make two clients at once
        return Asker(client, self._session.get().get_credentials(), self.name, self._root)

    def _make_presigner(self) -> Presigner:
        client = self.client  # a session must not make two clients at once
        session = self._session.get()
        if self.settings.redirect_endpoint:
            client = make_signer(self.settings, session)
        with storage_errors("presign", self.name, ""):
            return Presigner(client, session.get_credentials(), self.name, self._root)

    def _confirm(self) -> None:
        """Raises Unavailable if the bucket is not there, or if that cannot be told.

        A HEAD's 404 has no body to say what is missing. A bucket seen a minute ago is not asked for
        again; one that may not be asked for exists.
        """
        if time.monotonic() - self._confirmed < _CONFIRMED_FOR:
            return
        try:
            with storage_errors("HeadBucket", self.name, ""):
                self.client.head_bucket(Bucket=self.name)
        except Denied:
            pass
        except ObjectNotFound as error:
            raise Unavailable(
                f"the bucket {self.name} does not exist; create it, or correct `bucket`"
            ) from error
        self._confirmed = time.monotonic()


def _info(key: str, size: int, modified: datetime) -> ObjectInfo:
    return ObjectInfo(key, size, modified.timestamp())
