"""HEAD and GET of an object: the short way where that will do, and else botocore's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.response import StreamingBody

from storage.drivers.s3.client import parse_time
from storage.drivers.s3.direct import Direct, Method

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.credentials import Credentials
    from types_boto3_s3.client import S3Client


@dataclass(frozen=True, slots=True)
class Answer:
    length: int
    """Of the body; of a HEAD's, if it had one."""
    modified: datetime
    etag: str
    content_range: str


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
        response = self._ask("HEAD", key, {})
        if response is not None:
            return _answer(response.raw.headers)
        said = self._client.head_object(Bucket=self._bucket, Key=self._root + key)
        return Answer(said["ContentLength"], said["LastModified"], said.get("ETag", ""), "")

    def get(self, key: str, *, span: str = "", etag: str = "") -> tuple[Answer, StreamingBody]:
        """`span` as in Range; with `etag` only what has that one. The caller closes the body."""
        headers = {"Range": span} if span else {}
        wanted: dict[str, Any] = dict(headers)
        if etag:
            headers["If-Match"] = wanted["IfMatch"] = etag
        response = self._ask("GET", key, headers)
        if response is not None:
            answer = _answer(response.raw.headers)
            return answer, StreamingBody(response.raw, answer.length)
        said = self._client.get_object(Bucket=self._bucket, Key=self._root + key, **wanted)
        answer = Answer(
            said["ContentLength"],
            said["LastModified"],
            said.get("ETag", ""),
            said.get("ContentRange", ""),
        )
        return answer, said["Body"]

    def _ask(self, method: Method, key: str, headers: Mapping[str, str]) -> AWSResponse | None:
        return None if self._direct is None else self._direct.ask(method, key, headers)


def _answer(headers: Mapping[str, str]) -> Answer:
    return Answer(
        int(headers["Content-Length"]),
        parse_time(headers["Last-Modified"]),
        headers.get("ETag", ""),
        headers.get("Content-Range", ""),
    )
