"""An object uploaded in parts, several at once, which nobody sees before complete().

The parts of one upload have one size, but for the last: some stores refuse others. Each is sent by a
thread that all uploads share; at most `in_flight` parts of one upload wait for the store, then send()
waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from storage.driver_errors import DriverError, NoSpace, ObjectNotFound
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.errors import (
    ConditionRefused,
    Unsupported,
    UploadGone,
    storage_errors,
)
from storage.drivers.s3.settings import MOST_PARTS

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

log = logging.getLogger("holdfast.storage.s3")

IN_FLIGHT = 4
WIDE_IN_FLIGHT = 3


class MultipartUpload:
    """Not thread-safe. Ends with complete() or abort(); either is safe after the other."""

    def __init__(
        self, bucket: Bucket, pool: ThreadPoolExecutor, key: str, *, in_flight: int = IN_FLIGHT
    ) -> None:
        self.key = key
        self._in_flight = in_flight
        self._bucket = bucket
        self._pool = pool
        self._parts: list[Future[CompletedPartTypeDef]] = []
        self._ended = False
        with storage_errors("CreateMultipartUpload", bucket.name, bucket.full(key)):
            answer = bucket.client.create_multipart_upload(
                Bucket=bucket.name,
                Key=bucket.full(key),
                ContentType="application/octet-stream",
                **bucket.options(),
            )
        self._where: dict[str, Any] = {
            "Bucket": bucket.name,
            "Key": bucket.full(key),
            "UploadId": answer["UploadId"],
        }

    def send(self, data: bytes, sent: Callable[[], object] = lambda: None) -> None:
        """Begin to upload the next part; `sent` is called when its memory is free again.

        Raises the DriverError of an earlier part that failed, having called `sent`.
        """
        try:
            self._make_way()
            number = self._next_number()
        except BaseException:
            sent()
            raise
        part = self._pool.submit(self._upload, number, data)
        self._parts.append(part)
        part.add_done_callback(lambda _: sent())

    def copy(self, source: str, first: int, last: int, *, whole: bool) -> None:
        """Begin to copy the bytes `first` to `last` of an object as the next part; does not wait."""
        span: dict[str, Any] = {} if whole else {"CopySourceRange": f"bytes={first}-{last}"}
        self._parts.append(self._pool.submit(self._copy, self._next_number(), source, span))

    def complete(self, size: int, *, absent: bool = False) -> None:
        """Wait for all parts and make them the object, of `size` bytes. `absent` as of Bucket.put().

        Raises ObjectNotFound if the source of a copy is gone, BadParts if the store refuses their sizes.
        After an error the upload is still to be aborted.
        """
        parts = [part.result() for part in self._parts]
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if absent else {}
        try:
            with storage_errors("CompleteMultipartUpload", self._bucket.name, self.key):
                self._bucket.client.complete_multipart_upload(
                    **self._where, MultipartUpload={"Parts": parts}, **condition
                )
        except (UploadGone, ConditionRefused) as error:
            # Completed by an earlier attempt whose answer was lost, or there already; or else aborted.
            if not published(self._bucket, self.key, size):
                raise
            log.info("%s was there already when its upload was completed: %s", self.key, error)
            if isinstance(error, ConditionRefused):
                self.abort()
        self._ended = True

    def abort(self) -> None:
        """Give it up. A failure is only logged: what is left, abort_unfinished() finds."""
        if self._ended:
            return
        self._ended = True
        for part in self._parts:
            part.cancel()
        wait(self._parts)
        try:
            with storage_errors("AbortMultipartUpload", self._bucket.name, self.key):
                self._bucket.client.abort_multipart_upload(**self._where)
        except UploadGone:
            pass
        except DriverError as error:
            log.warning("a multipart upload was not aborted and waits for the purge: %s", error)

    def _make_way(self) -> None:
        """Wait until fewer parts are on their way than may be. Raises what failed of them."""
        waiting = [part for part in self._parts if not part.done()]
        while len(waiting) >= self._in_flight:
            waiting = [*wait(waiting, return_when=FIRST_COMPLETED).not_done]
        for part in self._parts:
            if part.done():
                part.result()

    def _next_number(self) -> int:
        if len(self._parts) == MOST_PARTS:
            raise NoSpace(
                f"upload {self.key}: it has more than {MOST_PARTS} parts; raise `chunksize`"
            )
        return len(self._parts) + 1

    def _upload(self, number: int, data: bytes) -> CompletedPartTypeDef:
        with storage_errors("UploadPart", self._bucket.name, self.key):
            answer = self._bucket.client.upload_part(
                **self._where, PartNumber=number, Body=data, ContentLength=len(data)
            )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _copy(self, number: int, source: str, span: dict[str, Any]) -> CompletedPartTypeDef:
        bucket = self._bucket
        with storage_errors("UploadPartCopy", bucket.name, self.key):
            answer = bucket.client.upload_part_copy(
                **self._where,
                PartNumber=number,
                CopySource={"Bucket": bucket.name, "Key": bucket.full(source)},
                **span,
            )
        etag = answer.get("CopyPartResult", {}).get("ETag")
        if not etag:  # a store that took it for an UploadPart without a body
            raise Unsupported(f"UploadPartCopy s3://{bucket.name}/{self.key}: nothing was copied")
        return {"PartNumber": number, "ETag": etag}


def published(bucket: Bucket, key: str, size: int) -> bool:
    try:
        return bucket.head(key).size == size
    except ObjectNotFound:
        return False
