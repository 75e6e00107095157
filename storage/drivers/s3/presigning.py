"""URLs from which a client fetches an object of the store itself.

botocore makes one by way of a whole request that it then does not send, and every layer that is pulled
needs one. Within a second they differ in nothing but the key and the signature. So botocore is asked for
one of each second; the others have its form, and are signed by botocore's signer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import NoCredentialsError

from storage.driver import WouldBlock

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from types_boto3_s3.client import S3Client

_LETTER = "x"
"""A key that needs no quoting, as none of a driver's does."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What the URLs of one second, one lifetime and one pair of keys have in common."""

    made_of: tuple[int, int, ReadOnlyCredentials]
    signer: S3SigV4QueryAuth
    example: AWSRequest
    query: str
    before: str
    after: str
    """Around the key in what is signed."""


class Presigner:
    """For objects of one bucket whose keys begin with `root`. Thread-safe.

    `client` leads to where the URLs are to lead. Raises what botocore raises.
    """

    def __init__(
        self, client: S3Client, credentials: Credentials | None, bucket: str, root: str
    ) -> None:
        if credentials is None:
            raise NoCredentialsError
        example = client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": root + _LETTER}
        )
        place, _, query = example.partition("?")
        self._place = place.removesuffix(_LETTER)
        self._credentials = credentials
        scope = parse_qs(query)["X-Amz-Credential"][0]
        _, _, self._region, self._service, _ = scope.rsplit("/", 4)
        self._form: _Form | None = None

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
        form = self._form
        if form is None or form.made_of != made_of:
            form = self._form = self._make_form(made_of)
        signed = form.signer.string_to_sign(form.example, f"{form.before}{key}{form.after}")
        signature = form.signer.signature(signed, form.example)
        return f"{self._place}{key}?{form.query}&X-Amz-Signature={signature}"

    def _make_form(self, made_of: tuple[int, int, ReadOnlyCredentials]) -> _Form:
        _, lifetime, credentials = made_of
        signer = S3SigV4QueryAuth(credentials, self._service, self._region, expires=lifetime)
        example = AWSRequest(method="GET", url=self._place + _LETTER)
        signer.add_auth(example)
        unsigned = str(example.url).partition("&X-Amz-Signature=")[0]
        whole = signer.canonical_request(AWSRequest(method="GET", url=unsigned))
        before, _, after = whole.partition(f"{_LETTER}\n")
        return _Form(made_of, signer, example, unsigned.partition("?")[2], before, f"\n{after}")
