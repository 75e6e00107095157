"""Removing many objects, and uploads that were never completed, which no listing shows but are paid for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice

from storage.drivers.s3.bucket import BATCH, Bucket
from storage.drivers.s3.errors import Unsupported, UploadGone, storage_errors


def delete_many(bucket: Bucket, keys: Iterable[str]) -> None:
    remaining = iter(keys)
    while batch := [*islice(remaining, BATCH)]:
        bucket.delete_all(batch)


def delete_below(bucket: Bucket, prefix: str) -> None:
    """`prefix` ends with a slash. Uploads first, so that none becomes an object behind our back."""
    for key, upload, _ in unfinished(bucket, prefix):
        _abort(bucket, key, upload)
    for page in bucket.pages(prefix):
        bucket.delete_all([info.key for info in page.objects])


def abort_stale(bucket: Bucket, prefix: str, before: float) -> int:
    """How many multipart uploads were aborted that began, and got their newest part, before that time.

    One that began long ago may still be growing, and some stores do not tell when it began.
    """
    count = 0
    for key, upload, initiated in unfinished(bucket, prefix):
        if initiated >= before or _newest_part(bucket, key, upload) >= before:
            continue
        _abort(bucket, key, upload)
        count += 1
    return count


def unfinished(bucket: Bucket, prefix: str) -> Iterator[tuple[str, str, float]]:
    """Full key, upload id and time of beginning of each multipart upload below `prefix`."""
    markers: dict[str, str] = {}
    while True:
        try:
            with storage_errors("ListMultipartUploads", bucket.name, prefix):
                answer = bucket.client.list_multipart_uploads(
                    Bucket=bucket.name,
                    Prefix=bucket.full(prefix),
                    KeyMarker=markers.get("key", ""),
                    UploadIdMarker=markers.get("id", ""),
                )
        except (UploadGone, Unsupported):  # rclone says so where there are none
            return
        for item in answer.get("Uploads", []):
            yield item["Key"], item["UploadId"], item["Initiated"].timestamp()
        if not answer.get("IsTruncated"):
            return
        markers = {
            "key": answer.get("NextKeyMarker", ""),
            "id": answer.get("NextUploadIdMarker", ""),
        }


def _newest_part(bucket: Bucket, key: str, upload: str) -> float:
    newest: datetime | None = None
    marker = 0
    while True:
        try:
            with storage_errors("ListParts", bucket.name, key):
                answer = bucket.client.list_parts(
                    Bucket=bucket.name, Key=key, UploadId=upload, PartNumberMarker=marker
                )
        except UploadGone:  # completed or aborted meanwhile
            return float("inf")
        for part in answer.get("Parts", []):
            newest = max(newest or part["LastModified"], part["LastModified"])
        if not answer.get("IsTruncated"):
            return newest.timestamp() if newest else float("-inf")
        marker = answer["NextPartNumberMarker"]


def _abort(bucket: Bucket, key: str, upload: str) -> None:
    try:
        with storage_errors("AbortMultipartUpload", bucket.name, key):
            bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload)
    except UploadGone:
        pass
