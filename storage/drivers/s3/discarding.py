"""Removals whose signatures expire at one moment, fixed before the first of them is made.

A presigned URL says when it was signed and for how long it is good. Both are given here and not taken
from this machine's clock: so a process that was suspended before it signed, or a request that was held
up on its way, finds the store refusing. DeleteObjects is signed in its headers, good for 15 minutes from
whenever it is sent, and so cannot do this.
"""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, HTTPClientError
from botocore.httpsession import URLLib3Session

from storage.driver import check_key
from storage.driver_errors import Unavailable, Void
from storage.drivers.s3.bucket import Bucket
from storage.drivers.s3.client import make_session
from storage.drivers.s3.errors import Denied, storage_errors

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.credentials import Credentials


class SignedDeletes:
    """A `storage.driver.Discarder`. A key that is not there is not told from one that was."""

    def __init__(self, bucket: Bucket, since: float, lifetime: float) -> None:
        self._bucket = bucket
        self._since = int(since)
        self._seconds = max(1, int(lifetime))
        settings = bucket.settings
        with storage_errors("sign", bucket.name, ""):
            self._credentials = make_session(settings).get_credentials()
        self._session = URLLib3Session(
            verify=False if settings.skipverify else settings.cabundle or True,  # type: ignore[arg-type] # a path, too
            timeout=(settings.connecttimeout, settings.readtimeout),  # type: ignore[arg-type] # of both kinds
            max_pool_connections=settings.connections,
        )

    def discard(self, key: str) -> bool:
        what = f"DeleteObject s3://{self._bucket.name}/{self._bucket.full(check_key(key))}"
        request = AWSRequest(method="DELETE", url=self._url(key))
        with storage_errors("sign", self._bucket.name, key):
            self._sign(request)
        try:
            answer = self._session.send(request.prepare())
        except (HTTPClientError, BotoCoreError) as error:
            raise Unavailable(f"{what}: {error}") from error
        if answer.status_code in (200, 204, 404):
            return True
        text = f"{what}: {answer.status_code} {answer.content[:300]!r}"
        if answer.status_code not in (400, 403):  # which of them depends on the store
            raise Unavailable(text)
        if _date(answer) >= self._since + self._seconds:
            raise Void(text)
        raise Denied(text)

    def _url(self, key: str) -> str:
        """Where the object is, without a signature."""
        with storage_errors("presign", self._bucket.name, key):
            url = self._bucket.client.generate_presigned_url(
                "delete_object",
                Params={"Bucket": self._bucket.name, "Key": self._bucket.full(key)},
            )
        return urlunsplit(urlsplit(url)._replace(query=""))

    def _sign(self, request: AWSRequest) -> None:
        if self._credentials is None:
            raise Unavailable(
                "there are no credentials to sign with: give `accesskey` and `secretkey`, or "
                "credentials in the environment"
            )
        signer = _At(
            self._credentials, self._bucket.client.meta.region_name, self._since, self._seconds
        )
        signer.add_auth(request)


class _At(S3SigV4QueryAuth):
    """Signs as if it were another time."""

    def __init__(self, credentials: Credentials, region: str, since: int, seconds: int) -> None:
        super().__init__(credentials.get_frozen_credentials(), "s3", region, expires=seconds)
        self._stamp = datetime.fromtimestamp(since, UTC).strftime(SIGV4_TIMESTAMP)

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._stamp
        self._modify_request_before_signing(request)  # type: ignore[attr-defined] # not in the stubs
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(to_sign, request))  # type: ignore[attr-defined]


def _date(answer: AWSResponse) -> float:
    """The store's clock; for ever, if it does not say."""
    try:
        return email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return float("inf")
