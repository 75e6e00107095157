"""What botocore raises, as errors of a driver.

    DriverError
    ├── ObjectNotFound
    │   └── UploadGone        the multipart upload was completed or aborted
    ├── Conflict
    │   └── ConditionRefused  If-Match or If-None-Match did not hold
    └── Unavailable
        ├── Unsupported       the store does not know how to do that
        ├── Denied            the credentials may not do that
        ├── Vanished          what is being read was replaced or deleted
        └── BadParts          the store does not put these parts together
    OutOfRange                the range asked for begins at or beyond the end

Those that storage/driver.py does not know never leave this package.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from storage.driver_errors import Conflict, DriverError, NoSpace, ObjectNotFound, Unavailable


class UploadGone(ObjectNotFound):
    pass


class ConditionRefused(Conflict):
    """`retried`: an earlier attempt of the same request may have taken effect, its answer lost."""

    def __init__(self, text: str, *, retried: bool) -> None:
        super().__init__(text)
        self.retried = retried


class Unsupported(Unavailable):
    pass


class BadParts(Unavailable):
    pass


class Denied(Unavailable):
    pass


class Vanished(Unavailable):
    pass


class OutOfRange(Exception):
    pass


_KINDS: Final[dict[str, type[DriverError]]] = {
    "NoSuchKey": ObjectNotFound,
    "404": ObjectNotFound,
    "NoSuchUpload": UploadGone,
    "NotImplemented": Unsupported,
    "501": Unsupported,
    "MethodNotAllowed": Unsupported,
    "InvalidArgument": Unsupported,
    "InvalidRequest": Unsupported,
    "AccessDenied": Denied,
    "403": Denied,
    "InvalidPart": BadParts,
    "InvalidPartOrder": BadParts,
    "EntityTooSmall": BadParts,
    "QuotaExceeded": NoSpace,
    "InsufficientStorage": NoSpace,
    "StorageFull": NoSpace,
    "XMinioStorageFull": NoSpace,
    "507": NoSpace,
    "EntityTooLarge": NoSpace,
}

_ADVICE: Final[dict[str, str]] = {
    "NoSuchBucket": "the bucket does not exist; create it, or correct `bucket` and `region`",
    "AccessDenied": "grant the registry's credentials this operation on the bucket",
    "403": "grant the registry's credentials this operation on the bucket",
    "AllAccessDisabled": "the bucket was shut by its provider; ask there",
    "InvalidAccessKeyId": "the access key is unknown to the store; correct `accesskey`",
    "SignatureDoesNotMatch": "the secret key is wrong; correct `secretkey` or `region`",
    "ExpiredToken": "the credentials have expired; renew them",
    "ExpiredTokenException": "the credentials have expired; renew them",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it by NTP",
    "PermanentRedirect": "the bucket is in another region; correct `region`",
    "301": "the bucket is in another region; correct `region`",
    "AuthorizationHeaderMalformed": "the bucket is in another region; correct `region`",
    "InvalidStorageClass": "the store does not have this class; set `storageclass: NONE`",
    "AccessControlListNotSupported": "the bucket forbids ACLs; remove `objectacl`",
    "NoCredentialsError": "give `accesskey` and `secretkey`, or credentials in the environment",
    "EndpointConnectionError": "the store cannot be reached; look at `regionendpoint` and network",
    "SSLError": "the store's certificate is not trusted; give its authority as `cabundle`",
}


@contextlib.contextmanager
def storage_errors(operation: str, bucket: str, key: str) -> Iterator[None]:
    """Raises DriverError or OutOfRange in place of what botocore raises inside."""
    try:
        yield
    except ClientError as error:
        raise _translate(error, f"{operation} s3://{bucket}/{key}") from error
    except BotoCoreError as error:
        name = type(error).__name__
        text = f"{operation} s3://{bucket}/{key}: {error}"
        raise Unavailable(_advised(text, name)) from error


def _translate(error: ClientError, what: str) -> Exception:
    said = error.response.get("Error", {})
    code = str(said.get("Code", ""))
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    text = _advised(f"{what}: {status} {code} {said.get('Message', '')}".rstrip(), code)
    if status == 416 or code == "InvalidRange":
        return OutOfRange(text)
    if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return ConditionRefused(text, retried=metadata.get("RetryAttempts", 0) > 0)
    kind = _KINDS.get(code)
    if kind is None and code not in _ADVICE:
        kind = {404: ObjectNotFound, 501: Unsupported, 405: Unsupported, 507: NoSpace}.get(status)
    return (kind or Unavailable)(text)


def _advised(text: str, code: str) -> str:
    advice = _ADVICE.get(code)
    return f"{text} ({advice})" if advice else text
