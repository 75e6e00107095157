"""Signatures of requests that differ in nothing but their key.

botocore makes each request anew, from tables and by hooks, and its signer looks at all of it. Within a
second those of one method differ in the key alone. So one of each second is made as an example; the
others have its form, and are signed by botocore's signer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs

from botocore.exceptions import UnsupportedSignatureVersionError

if TYPE_CHECKING:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from types_boto3_s3.client import S3Client

ALGORITHM = "AWS4-HMAC-SHA256"
LETTER = "x"
"""A key that needs no quoting, as none of a driver's does."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client finds the objects of a bucket whose keys begin with `root`."""

    address: str
    """What comes before the key in a URL."""
    region: str
    service: str

    @classmethod
    def of(cls, client: S3Client, bucket: str, root: str) -> Self:
        """Raises what botocore raises, if there are no credentials for one.

        Also where it signs otherwise than by SigV4, as for access points of several regions.
        """
        example = client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": root + LETTER}
        )
        address, _, query = example.partition("?")
        asked = parse_qs(query)
        algorithm = asked["X-Amz-Algorithm"][0]
        if algorithm != ALGORITHM:
            raise UnsupportedSignatureVersionError(signature_version=algorithm)
        _, _, region, service, _ = asked["X-Amz-Credential"][0].rsplit("/", 4)
        return cls(address.removesuffix(LETTER), region, service)


@dataclass(frozen=True, slots=True)
class Form:
    """What is signed of all requests like one example."""

    signer: SigV4Auth
    example: AWSRequest
    before: str
    after: str
    """Around the key."""

    @classmethod
    def of(cls, signer: SigV4Auth, example: AWSRequest, unsigned: AWSRequest) -> Self:
        """The example is signed already; `unsigned` is what its signature is of. Both are for LETTER."""
        before, _, after = signer.canonical_request(unsigned).partition(f"{LETTER}\n")
        return cls(signer, example, before, f"\n{after}")

    def signature(self, key: str) -> str:
        signed = self.signer.string_to_sign(self.example, f"{self.before}{key}{self.after}")
        return self.signer.signature(signed, self.example)
