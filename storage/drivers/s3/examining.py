"""Every action that the driver needs, tried once on a bucket, and what the store lacks.

Writes a few small objects below the registry's own temporary prefix, and removes them. Permissions can
only be found out by trying: a policy may allow one action on one prefix and not on the next.
"""

from __future__ import annotations

import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Final

from storage.driver_errors import DriverError, ObjectNotFound
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.errors import ConditionRefused, Unsupported, storage_errors
from storage.drivers.s3.settings import S3Settings
from storage.examination import Observation, problem, warning, well

_CONTENT: Final = b"holdfast doctor"
_SKEW: Final = 60.0
"""Seconds; S3 refuses requests from clocks that are off by 15 minutes, and tokens go by theirs too."""
_URL_TIMEOUT: Final = 10.0


def examine(settings: S3Settings, prefix: str) -> Iterator[Observation]:
    """`prefix` is a key below which nothing is but what the registry may remove."""
    bucket = Bucket(settings)
    key = f"{prefix}/doctor-{secrets.token_hex(8)}"
    try:
        yield _clock(bucket)
    except DriverError as error:
        yield problem(
            "bucket",
            f"The store does not answer for the bucket {settings.bucket}: {error}.",
            "Check bucket, region, regionendpoint and the credentials; the error names which it is.",
        )
        return
    try:
        yield from _examine(bucket, key)
    finally:
        for name in (key, f"{key}-copy", f"{key}-parts"):
            try:
                bucket.delete(name)
            except DriverError:
                continue  # that it cannot be deleted was said already


def _examine(bucket: Bucket, key: str) -> Iterator[Observation]:
    put = _tried("s3:PutObject", lambda: bucket.put(key, _CONTENT), "No push works without it.")
    yield put
    if put.remedy:
        return
    yield _tried("s3:GetObject", lambda: bucket.get(key).body.read(), "No pull works without it.")
    yield _range(bucket, key)
    yield _tried(
        "s3:ListBucket",
        lambda: next(bucket.pages(f"{key}/")),
        "Without it a missing object looks like a forbidden one, and nothing can be listed.",
    )
    yield _tried(
        "CopyObject",
        lambda: bucket.copy(key, f"{key}-copy"),
        "Uploads are then copied through the registry, which costs its bandwidth twice.",
        lacking=warning,
    )
    yield from _multipart(bucket, f"{key}-parts")
    yield _conditions(bucket, key)
    yield _presigned(bucket, key)
    yield _tried(
        "s3:DeleteObject",
        lambda: bucket.delete_all([key, f"{key}-copy"]),
        "Uploads then leave their staging copies behind, and nothing can be deleted.",
    )
    yield _lifecycle(bucket)


def _tried(
    action: str,
    attempt: Callable[[], object],
    consequence: str,
    lacking: Callable[[str, str, str], Observation] = problem,
) -> Observation:
    try:
        attempt()
    except (DriverError, Unsupported) as error:
        return lacking(
            action,
            f"{error}. {consequence}",
            f"Allow {action} for these credentials (docs/s3.md has the whole policy), or use a store "
            "that has it.",
        )
    return well(action, "It is allowed and works.")


def _clock(bucket: Bucket) -> Observation:
    with storage_errors("HeadBucket", bucket.name, ""):
        answer: Any = bucket.client.head_bucket(Bucket=bucket.name)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return warning("clock", "The store does not say what time it is.", "Nothing to do here.")
    if abs(skew) > _SKEW:
        return problem(
            "clock",
            f"This machine's clock differs from the store's by {skew:.0f} seconds.",
            "Run an NTP client on this machine: signed requests are refused when it is too far off.",
        )
    return well("clock", "This machine's clock and the store's agree.")


def _range(bucket: Bucket, key: str) -> Observation:
    try:
        found = bucket.get(key, 9, 6).body.read()
    except DriverError as error:
        found = str(error).encode()
    if found == _CONTENT[9:15]:
        return well("ranges", "A part of an object can be read.")
    return problem(
        "ranges",
        f"Asked for 6 bytes in the middle of an object, the store gave {found[:100]!r}.",
        "Interrupted pulls cannot go on; use a store that answers Range requests.",
    )


def _multipart(bucket: Bucket, key: str) -> Iterator[Observation]:
    client: Any = bucket.client
    where = {"Bucket": bucket.name, "Key": bucket.full(key)}
    try:
        with storage_errors("CreateMultipartUpload", bucket.name, key):
            upload = client.create_multipart_upload(**where, **bucket.options())["UploadId"]
    except DriverError as error:
        yield problem(
            "multipart uploads",
            f"{error}. Layers of more than one part cannot be pushed.",
            "Allow s3:PutObject on multipart uploads, and the KMS key if there is one.",
        )
        return
    part = {**where, "UploadId": upload, "PartNumber": 1}

    def named(operation: str, attempt: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with storage_errors(operation, bucket.name, bucket.full(key)):
                return attempt()

        return run

    attempts: list[tuple[str, Callable[[], object], str]] = [
        ("UploadPart", lambda: client.upload_part(**part, Body=b"x"), "Large layers fail."),
        (
            "s3:ListMultipartUploadParts",
            lambda: client.list_parts(**where, UploadId=upload),
            "The purge cannot tell an abandoned upload from a slow one, and keeps both.",
        ),
        (
            "s3:ListBucketMultipartUploads",
            lambda: client.list_multipart_uploads(Bucket=bucket.name, Prefix=bucket.full(key)),
            "The purge cannot find abandoned uploads, and their parts are billed for ever.",
        ),
        (
            "s3:AbortMultipartUpload",
            lambda: client.abort_multipart_upload(**where, UploadId=upload),
            "What a failed push uploaded stays, and is billed.",
        ),
    ]
    for action, attempt, consequence in attempts:
        yield _tried(action, named(action, attempt), consequence)


def _conditions(bucket: Bucket, key: str) -> Observation:
    try:
        bucket.put(key, _CONTENT, absent=True)
    except ConditionRefused:
        return well("conditional writes", "The store keeps the first of two writers.")
    except (Unsupported, DriverError):
        pass
    return warning(
        "conditional writes",
        "The store ignores or refuses If-None-Match. Nothing is lost by that, but two clients that "
        "change one tag with If-Match at the same moment on two nodes may both be told that they won.",
        "Nothing to do, unless you rely on compare-and-set of tags: then use a store that has them.",
    )


def _presigned(bucket: Bucket, key: str) -> Observation:
    url = bucket.presign(key, 60)
    host = urllib.request.Request(url).host  # noqa: S310 - our own store's address
    remedy = (
        "Clients are sent there to pull. If they cannot reach it either: set redirectendpoint to an "
        "address that they can, or storage.redirect.disable: true."
    )
    try:
        with urllib.request.urlopen(url, timeout=_URL_TIMEOUT) as answer:  # noqa: S310
            content = answer.read(1000)
    except (urllib.error.URLError, OSError) as error:
        return warning("presigned URLs", f"From here {host} answers: {error}.", remedy)
    if content != _CONTENT:
        return problem("presigned URLs", f"{host} gave other content than was stored.", remedy)
    return well("presigned URLs", f"From here {host} gives the content; clients must reach it too.")


def _lifecycle(bucket: Bucket) -> Observation:
    subject = "lifecycle rule"
    remedy = "Add a rule AbortIncompleteMultipartUpload after 7 days; docs/s3.md has it."
    try:
        with storage_errors("GetBucketLifecycleConfiguration", bucket.name, ""):
            answer = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.name)
    except ObjectNotFound:
        answer = None
    except DriverError as error:
        return warning(
            subject,
            f"It cannot be read: {error}. Parts of pushes that never ended may be billed for ever.",
            remedy,
        )
    rules = [] if answer is None else answer.get("Rules", [])
    if any("AbortIncompleteMultipartUpload" in r and r.get("Status") == "Enabled" for r in rules):
        return well(subject, "Parts of uploads that never end are removed by the store too.")
    return warning(
        subject,
        "The bucket has none for unfinished uploads. The registry's purge removes its own, unless it "
        "is switched off.",
        remedy,
    )
