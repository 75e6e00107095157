"""HEAD and GET of an object by the shortest way.

Around a request that takes 0.2 ms of CPU to send, botocore spends 0.7: it checks, resolves and parses
everything by tables, and asks its hooks. Whether links and blobs are there is most of what a registry
asks of its bucket. So this is sent as it is, by botocore's own connections, in the form and with the
signature that botocore would give it (`signing.py`).

Only what a store says plainly is believed: here it is, here is the part, there is no such key. For all
else there is botocore, which knows what a redirect to another region, a refusal or a busy store ask for,
tries again, and says what is wrong: an answer that is rare, such as 412 or 416, costs two requests. A
store that fails, or leads elsewhere, is left to it for a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.exceptions import BotoCoreError, UnsupportedSignatureVersionError
from botocore.response import StreamingBody
from urllib3.exceptions import HTTPError

from storage.driver_errors import ObjectNotFound
from storage.drivers.s3.client import parse_time
from storage.drivers.s3.signing import LETTER, Form, Place

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from types_boto3_s3.client import S3Client

log = logging.getLogger("holdfast.storage")

PAUSE: Final = 30.0
"""Seconds after a failure in which nothing is asked this way: more than a store may usually be silent, so
that an outage costs few requests one wait more."""
_DOUBTS: Final = frozenset({404, 412, 416})
"""Answers of a store that is well, which botocore is to put into words."""
_ABSENT: Final = b"<Code>NoSuchKey</Code>"
_TOLD: Final = 64 * 1024
"""Bytes of an error that are read."""

Method = Literal["GET", "HEAD"]


@dataclass(frozen=True, slots=True)
class Answer:
    length: int
    """Of the body; of a HEAD's, if it had one."""
    modified: datetime
    etag: str
    content_range: str


@dataclass(frozen=True, slots=True)
class _Requests:
    """What the requests of one second, one method and one pair of keys have in common."""

    made_of: tuple[int, ReadOnlyCredentials]
    form: Form
    headers: Mapping[str, str]
    authorization: str


class Direct:
    """For objects whose keys begin as `place` says. Thread-safe."""

    def __init__(
        self,
        send: Callable[[AWSPreparedRequest], AWSResponse],
        place: Place,
        credentials: Credentials,
        config: Any,
    ) -> None:
        """`config` is the client's."""
        self._send = send
        self._place = place
        self._credentials = credentials
        self._config = config
        self._requests: dict[Method, _Requests] = {}
        self._not_before = float("-inf")

    @classmethod
    def of(
        cls, client: S3Client, credentials: Credentials | None, bucket: str, root: str
    ) -> Self | None:
        """With the client's connections, proxies and authorities, which have no public name.

        None where there are none such, no credentials, or not the usual signatures: then all is botocore's.
        """
        inner: Any = client
        session = getattr(getattr(inner, "_endpoint", None), "http_session", None)
        if session is None or credentials is None:
            return None
        try:
            place = Place.of(client, bucket, root)
        except UnsupportedSignatureVersionError:
            return None
        return cls(session.send, place, credentials, inner.meta.config)

    def ask(
        self, method: Method, key: str, headers: Mapping[str, str]
    ) -> tuple[Answer, StreamingBody] | None:
        """None where botocore is to be asked.

        No x-amz-* may be in `headers`: they are not signed. Whoever gets the body of a GET reads it to
        its end, or closes it. Raises ObjectNotFound; a HEAD does so where there is no such bucket, too.
        """
        if time.monotonic() < self._not_before:
            return None
        try:
            response = self._send(self._prepared(method, key, headers))
            if (answer := _answer(response)) is not None:
                return answer, StreamingBody(response.raw, answer.length)
            absent = response.status_code == 404 and (
                method == "HEAD" or _ABSENT in response.raw.read(_TOLD)
            )
            failed = response.status_code not in _DOUBTS
            response.raw.close()
        except (BotoCoreError, HTTPError, OSError):  # botocore will meet it too, and say what it is
            absent, failed = False, True
        if absent:
            raise ObjectNotFound(f"{method} {self._place.address}{key}: there is no such object")
        if failed:
            log.debug("%s %s: botocore is asked for %d s", method, key, PAUSE)
            self._not_before = time.monotonic() + PAUSE
        return None

    def _prepared(self, method: Method, key: str, headers: Mapping[str, str]) -> AWSPreparedRequest:
        made_of = (int(time.time()), self._credentials.get_frozen_credentials())
        requests = self._requests.get(method)
        if requests is None or requests.made_of != made_of:
            requests = self._requests[method] = self._make_requests(method, made_of)
        signed = requests.authorization + requests.form.signature(key)
        sent: Any = {**requests.headers, **headers, "Authorization": signed}
        return AWSPreparedRequest(
            method,
            self._place.address + key,
            sent,
            None,
            method == "GET",  # else the answer is read to its end at once
        )

    def _make_requests(self, method: Method, made_of: tuple[int, ReadOnlyCredentials]) -> _Requests:
        place = self._place
        signer = S3SigV4Auth(made_of[1], place.service, place.region)
        example = AWSRequest(method=method, url=place.address + LETTER)
        example.context["client_config"] = self._config
        signer.add_auth(example)
        headers = {name: str(value) for name, value in example.headers.items()}
        before, equals, _ = headers.pop("Authorization").rpartition("Signature=")
        form = Form.of(signer, example, AWSRequest(method=method, url=example.url, headers=headers))
        headers["User-Agent"] = self._config.user_agent
        return _Requests(made_of, form, headers, before + equals)


def _answer(response: AWSResponse) -> Answer | None:
    headers: Mapping[str, str] = response.raw.headers
    if response.status_code not in (200, 206):
        return None
    try:
        return Answer(
            int(headers["Content-Length"]),
            parse_time(headers["Last-Modified"]),
            headers.get("ETag", ""),
            headers.get("Content-Range", ""),
        )
    except (KeyError, ValueError):
        return None
