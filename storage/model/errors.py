"""What can go wrong, in the registry's own terms.

    RegistryError
    ├── NameInvalid  NameUnknown  TagInvalid  DigestInvalid  SizeInvalid
    ├── BlobUnknown  ManifestUnknown  ManifestInvalid  ManifestTooLarge  ManifestBlobUnknown
    ├── UploadUnknown  UploadInvalid  RangeInvalid  PaginationInvalid
    ├── Unauthorized  Denied  PreconditionFailed  Unsupported  TooManyRequests
    └── Unavailable
        ├── StorageFull
        └── Doomed

Each class has one OCI error code (distribution-spec, "Error Codes"; COMPAT names that Distribution
added are kept) and no HTTP status: `registry/errors.py` alone knows those. The message is a sentence
for the person who reads it: what is wrong and what to do. It never holds a path, host or key of the
storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class RegistryError(Exception):
    """Base of all that is answered with an OCI error envelope.

    `detail` is any JSON value and goes into the envelope as it is.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, detail: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class NameInvalid(RegistryError):
    code = "NAME_INVALID"


class NameUnknown(RegistryError):
    code = "NAME_UNKNOWN"


class TagInvalid(RegistryError):
    code = "TAG_INVALID"


class DigestInvalid(RegistryError):
    code = "DIGEST_INVALID"


class SizeInvalid(RegistryError):
    code = "SIZE_INVALID"


class BlobUnknown(RegistryError):
    code = "BLOB_UNKNOWN"


class ManifestUnknown(RegistryError):
    code = "MANIFEST_UNKNOWN"


class ManifestInvalid(RegistryError):
    code = "MANIFEST_INVALID"


class ManifestTooLarge(ManifestInvalid):
    """The manifest is larger than the registry accepts (413)."""


class ManifestBlobUnknown(RegistryError):
    """A manifest names content that this repository does not have.

    `missing` holds all of it. A manifest of 4 MiB can name tens of thousands, so what a client is told
    names the first LISTED, and how many more there are.
    """

    code = "MANIFEST_BLOB_UNKNOWN"
    LISTED: ClassVar[int] = 100

    def __init__(self, missing: Sequence[str]) -> None:
        listed, more = ", ".join(missing[: self.LISTED]), len(missing) - self.LISTED
        super().__init__(
            f"The manifest refers to content that is not in this repository: {listed}"
            f"{f', and {more} more' if more > 0 else ''}. Push it first, then the manifest."
        )
        self.missing = tuple(missing)


class UploadUnknown(RegistryError):
    code = "BLOB_UPLOAD_UNKNOWN"


class UploadInvalid(RegistryError):
    code = "BLOB_UPLOAD_INVALID"


class RangeInvalid(RegistryError):
    """A chunk does not begin where the upload ends; `offset` is where it must begin."""

    code = "RANGE_INVALID"

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message, {"offset": offset})
        self.offset = offset


class PaginationInvalid(RegistryError):
    code = "PAGINATION_NUMBER_INVALID"


class Unauthorized(RegistryError):
    """`challenge` is the value of WWW-Authenticate."""

    code = "UNAUTHORIZED"

    def __init__(self, message: str, *, challenge: str, detail: object = None) -> None:
        super().__init__(message, detail)
        self.challenge = challenge


class Denied(RegistryError):
    code = "DENIED"


class PreconditionFailed(RegistryError):
    """If-Match or If-None-Match did not hold (RFC 9110 section 13); nothing was changed."""

    code = "PRECONDITION_FAILED"

    detail: Mapping[str, object]

    def __init__(self, message: str, detail: Mapping[str, object]) -> None:
        super().__init__(message, detail)


class Unsupported(RegistryError):
    code = "UNSUPPORTED"


class TooManyRequests(RegistryError):
    code = "TOOMANYREQUESTS"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(RegistryError):
    """The storage did not do what it was asked; trying again after `retry_after` seconds is right."""

    code = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageFull(Unavailable):
    def __init__(self) -> None:
        super().__init__(
            "The registry's storage is full. Nothing that was stored is lost; an upload can be "
            "resumed once its operator has made room.",
            retry_after=60,
        )


class Doomed(Unavailable):
    """What a push would rely on is being removed; in a minute it is gone, or stays."""

    def __init__(self) -> None:
        super().__init__(
            "Content that this push uses again is being removed as garbage at this moment. In a minute "
            "that is over; push again then.",
            retry_after=30,
        )
