"""What an operator can set of the S3 driver, under the names that CNCF Distribution has for it."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024

SMALLEST_PART = 5 * MEBIBYTE
"""S3's minimum of every part but the last (Amazon S3 User Guide, "multipart upload limits")."""

MOST_PARTS = 10_000

LARGEST_COPY = 5 * 1024 * MEBIBYTE
"""What CopyObject, and one UploadPartCopy, can copy."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Sizes are in bytes, times in seconds. Raises ValueError with a sentence for the operator."""

    bucket: str
    region: str = ""
    regionendpoint: str = ""  # the store's address; a bare host is taken with `secure`
    redirectendpoint: str = ""  # the address in presigned URLs, where clients need another one
    accesskey: str = ""  # with secretkey; empty: the environment, a profile, the instance's role
    secretkey: str = ""
    profile: str = ""
    rootdirectory: str = ""

    forcepathstyle: bool | None = None  # None: path style where `regionendpoint` is given
    secure: bool = True
    skipverify: bool = False
    cabundle: str = ""
    usedualstack: bool = False
    accelerate: bool = False
    usefipsendpoint: bool = False
    useragent: str = ""

    encrypt: bool = False
    keyid: str = ""
    storageclass: str = "STANDARD"  # "NONE" or "": not sent
    objectacl: str = "private"  # which is what an object has anyway, so it is not sent

    chunksize: int = 16 * MEBIBYTE
    multipartcopychunksize: int = 32 * MEBIBYTE
    # Of a hundred at once, as Distribution has it, a store of few disks may answer none in time.
    multipartcopymaxconcurrency: int = 16
    multipartcopythresholdsize: int = 32 * MEBIBYTE

    uploadmaxconcurrency: int = 16  # parts on their way to the store at once, of all uploads
    connections: int = 128
    attempts: int = 4
    connecttimeout: float = 5.0
    readtimeout: float = 20.0
    uploadmemory: int = 512 * MEBIBYTE  # of one process, for all uploads together

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ValueError("The S3 storage needs a `bucket`: name the one that holds the images.")
        if not self.region and not self.regionendpoint:
            raise ValueError(
                "The S3 storage needs a `region`, such as eu-central-1, or the `regionendpoint` of "
                "another store than Amazon's."
            )
        if bool(self.accesskey) != bool(self.secretkey):
            raise ValueError(
                "The S3 storage has only one of `accesskey` and `secretkey`: give both, or neither "
                "to take the credentials from the environment."
            )
        if self.keyid and not self.encrypt:
            raise ValueError("The S3 storage has a `keyid` but not `encrypt: true`: add it.")
        _at_least("chunksize", self.chunksize, 8 * MEBIBYTE)
        _at_least("multipartcopychunksize", self.multipartcopychunksize, SMALLEST_PART)
        _at_least("multipartcopymaxconcurrency", self.multipartcopymaxconcurrency, 1)
        _at_least("multipartcopythresholdsize", self.multipartcopythresholdsize, 0)
        _at_least("uploadmaxconcurrency", self.uploadmaxconcurrency, 1)
        _at_least("connections", self.connections, 1)
        _at_least("attempts", self.attempts, 1)
        _at_least("uploadmemory", self.uploadmemory, self.chunksize)

    @property
    def endpoint(self) -> str | None:
        return self._with_scheme(self.regionendpoint)

    @property
    def redirect_endpoint(self) -> str | None:
        return self._with_scheme(self.redirectendpoint)

    @property
    def root(self) -> str:
        """What every key begins with: "" or ends with a slash."""
        root = self.rootdirectory.strip("/")
        return f"{root}/" if root else ""

    def _with_scheme(self, address: str) -> str | None:
        if not address or "://" in address:
            return address.rstrip("/") or None
        return f"{'https' if self.secure else 'http'}://{address.rstrip('/')}"


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"The S3 storage's `{name}` is {value}: make it {least} or more.")
