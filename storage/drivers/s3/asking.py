"""HEAD and GET of an object: the short way where that will do, and else botocore's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storage.drivers.s3.direct import Answer, Direct, Method

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.response import StreamingBody
    from types_boto3_s3.client import S3Client


class Asker:
    """Of objects of one bucket whose keys begin with `root`. Thread-safe.

    Raises ObjectNotFound, and what botocore raises. A HEAD does not tell a missing bucket from a missing
    object.
    """

    def __init__(
        self, client: S3Client, credentials: Credentials | None, bucket: str, root: str
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._root = root
        self._direct = Direct.of(client, credentials, bucket, root)

    def head(self, key: str) -> Answer:
        if (told := self._ask("HEAD", key, {})) is not None:
            return told[0]
        said = self._client.head_object(Bucket=self._bucket, Key=self._root + key)
        return _of_botocore(said)

    def get(self, key: str, *, span: str = "", etag: str = "") -> tuple[Answer, StreamingBody]:
        """`span` as in Range; with `etag` only what has that one. The caller closes the body."""
        headers = {"Range": span} if span else {}
        wanted: dict[str, Any] = dict(headers)
        if etag:
            headers["If-Match"] = wanted["IfMatch"] = etag
        if (told := self._ask("GET", key, headers)) is not None:
            return told
        said = self._client.get_object(Bucket=self._bucket, Key=self._root + key, **wanted)
        return _of_botocore(said), said["Body"]

    def _ask(
        self, method: Method, key: str, headers: Mapping[str, str]
    ) -> tuple[Answer, StreamingBody] | None:
        return None if self._direct is None else self._direct.ask(method, key, headers)


def _of_botocore(said: Mapping[str, Any]) -> Answer:
    return Answer(
        said["ContentLength"],
        said["LastModified"],
        said.get("ETag", ""),
        said.get("ContentRange", ""),
    )
