"""URLs from which a client fetches an object of the store itself.

botocore makes one by way of a whole request that it then does not send, and every layer that is pulled
needs one: see `signing.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import NoCredentialsError

from storage.driver_errors import WouldBlock
from storage.drivers.s3.signing import LETTER, Form, Place

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from types_boto3_s3.client import S3Client


@dataclass(frozen=True, slots=True)
class _Urls:
    """What the URLs of one second, one lifetime and one pair of keys have in common."""

    made_of: tuple[int, int, ReadOnlyCredentials]
    form: Form
    query: str


class Presigner:
    """For objects of one bucket whose keys begin with `root`. Thread-safe.

    `client` leads to where the URLs are to lead. Raises what botocore raises.
    """

    def __init__(
        self, client: S3Client, credentials: Credentials | None, bucket: str, root: str
    ) -> None:
        if credentials is None:
            raise NoCredentialsError
        self._place = Place.of(client, bucket, root)
        self._credentials = credentials
        self._urls: _Urls | None = None

    def url(self, key: str, lifetime: int, *, patient: bool = True) -> str:
        """As Driver.presign()."""
        credentials = self._credentials
        if (
            not patient
            and isinstance(credentials, RefreshableCredentials)
            and credentials.refresh_needed()
        ):
            raise WouldBlock("credentials are to be renewed")
        made_of = (int(time.time()), lifetime, credentials.get_frozen_credentials())
        urls = self._urls
        if urls is None or urls.made_of != made_of:
            urls = self._urls = self._make_urls(made_of)
        signature = urls.form.signature(key)
        return f"{self._place.address}{key}?{urls.query}&X-Amz-Signature={signature}"

    def _make_urls(self, made_of: tuple[int, int, ReadOnlyCredentials]) -> _Urls:
        _, lifetime, credentials = made_of
        place = self._place
        signer = S3SigV4QueryAuth(credentials, place.service, place.region, expires=lifetime)
        example = AWSRequest(method="GET", url=place.address + LETTER)
        signer.add_auth(example)
        url = str(example.url).partition("&X-Amz-Signature=")[0]
        form = Form.of(signer, example, AWSRequest(method="GET", url=url))
        return _Urls(made_of, form, url.partition("?")[2])
