"""URLs from which a client fetches an object of the store itself.

botocore makes one by way of a whole request that it then does not send, which costs twice as much again as
the signature, and every layer that is pulled needs one. All that differs between them is the key. So
botocore is asked for one, once; the others begin as that does, and are signed by botocore's signer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import NoCredentialsError

from storage.driver import WouldBlock

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from types_boto3_s3.client import S3Client

_LETTER = "x"


class Presigner:
    """For objects of one bucket whose keys begin with `root`, and need no quoting after it.

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

    def url(self, key: str, lifetime: int, *, patient: bool = True) -> str:
        """As Driver.presign()."""
        credentials = self._credentials
        if (
            not patient
            and isinstance(credentials, RefreshableCredentials)
            and credentials.refresh_needed()
        ):
            raise WouldBlock("credentials are to be renewed")
        request = AWSRequest(method="GET", url=self._place + key)
        S3SigV4QueryAuth(
            credentials.get_frozen_credentials(), self._service, self._region, expires=lifetime
        ).add_auth(request)
        return str(request.url)
