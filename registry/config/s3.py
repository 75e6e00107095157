"""The sections `storage.s3` and `storage.s3aws`, which are one: the driver for buckets of S3.

Parameters are Distribution's and mean the same, but for these, which it does not have: `cabundle`,
`profile`, `connections`, `uploadmaxconcurrency`, `uploadmemory`, and `none` for `objectacl`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from registry.config.errors import Findings, KeyPath
from registry.config.masking import quote
from registry.config.section import Section
from registry.config.values import (
    Endpoint,
    File,
    Secret,
    Switch,
    Text,
    Unused,
    as_switch,
    choice,
    whole,
)

MEBIBYTE: Final = 1024 * 1024
SMALLEST_CHUNK: Final = 8 * MEBIBYTE
"""Distribution takes 5 MiB too; what is below this counts as this."""
LARGEST_CHUNK: Final = 5 * 1024 * MEBIBYTE

S3_NAMES: Final = ("s3", "s3aws")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9._:/-]+", re.ASCII)
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_REGION_OF_AMAZON = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}", re.ASCII)
_CLASSES: Final = (
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "OUTPOSTS",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
    "NONE",
)
_ARCHIVES: Final = ("GLACIER", "DEEP_ARCHIVE")
_AMAZON_ONLY: Final = ("accelerate", "usedualstack", "usefipsendpoint")

Acl = Literal[
    "none",
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
]


def _bucket(value: str) -> str:
    if value and not _BUCKET.fullmatch(value):
        raise ValueError(f"{quote(value)} is not the name of a bucket, such as my-images")
    return value


def _region(value: str) -> str:
    if value and not _REGION.fullmatch(value):
        raise ValueError(f"{quote(value)} is not a region, such as eu-central-1")
    return value


def _storage_class(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = value.upper() or "NONE"
    if name in _ARCHIVES:
        raise ValueError(
            f"{name} is an archive, from which nothing can be pulled at once; GLACIER_IR is the "
            "coldest class that can be used"
        )
    if name not in _CLASSES:
        raise ValueError(f"{quote(value)} is not one of {', '.join(_CLASSES)}")
    return name


def _header(value: str) -> str:
    if not value.isascii():
        raise ValueError("is not ASCII, which the header User-Agent must be")
    return value


class S3(Section):
    bucket: Annotated[Text, AfterValidator(_bucket)] = ""
    region: Annotated[Text, AfterValidator(_region)] = ""
    regionendpoint: Endpoint = ""
    redirectendpoint: Endpoint = ""
    accesskey: Secret = Field(default="", repr=False)
    secretkey: Secret = Field(default="", repr=False)
    profile: Text = ""
    rootdirectory: Text = ""

    forcepathstyle: Switch | None = None  # None: if there is a regionendpoint
    secure: Switch = True
    skipverify: Switch = False
    cabundle: File | None = None
    v4auth: Switch = True
    usedualstack: Switch = False
    accelerate: Switch = False
    usefipsendpoint: Switch = False
    useragent: Annotated[Text, AfterValidator(_header)] = ""
    loglevel: Unused = None

    encrypt: Switch = False
    keyid: Text = ""
    storageclass: Annotated[str, BeforeValidator(_storage_class)] = "STANDARD"
    objectacl: Annotated[
        Acl,
        choice(
            *("none", "private", "public-read", "public-read-write", "authenticated-read"),
            *("aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"),
        ),
    ] = "private"

    chunksize: Annotated[
        int,
        whole(5 * MEBIBYTE, LARGEST_CHUNK),
        AfterValidator(lambda size: max(size, SMALLEST_CHUNK)),
    ] = 16 * MEBIBYTE
    multipartcopychunksize: Annotated[int, whole(5 * MEBIBYTE, LARGEST_CHUNK)] = 32 * MEBIBYTE
    multipartcopymaxconcurrency: Annotated[int, whole(1, 1000)] = 16
    multipartcopythresholdsize: Annotated[int, whole(0, LARGEST_CHUNK)] = 32 * MEBIBYTE
    uploadmaxconcurrency: Annotated[int, whole(1, 1000)] = 16
    uploadmemory: Annotated[int, whole(SMALLEST_CHUNK)] = 512 * MEBIBYTE
    connections: Annotated[int, whole(1, 10_000)] = 128


def check_s3(path: KeyPath, plain: Mapping[str, Any], findings: Findings) -> None:
    """What no single parameter can hold by itself; `plain` is the section as text."""
    if not plain.get("bucket"):
        findings.problem((*path, "bucket"), "is missing; name the bucket that holds the images")
    _check_place(path, plain, findings)
    _check_credentials(path, plain, findings)
    if plain.get("keyid") and as_switch(plain.get("encrypt")) is not True:
        findings.problem(
            (*path, "keyid"),
            "is the key to encrypt with, and encrypt is not true; set encrypt: true, or remove it",
        )
    if as_switch(plain.get("v4auth")) is False:
        findings.warn(
            (*path, "v4auth"),
            "is without effect: requests are always signed by version 4 of Amazon's rules",
        )
    chunk = _number(plain.get("chunksize"), S3().chunksize)
    if _number(plain.get("uploadmemory"), S3().uploadmemory) < chunk <= LARGEST_CHUNK:
        findings.problem(
            (*path, "uploadmemory"),
            "is less than one chunk; make it several times chunksize, one for each upload at once",
        )


def _check_place(path: KeyPath, plain: Mapping[str, Any], findings: Findings) -> None:
    region = plain.get("region")
    if plain.get("regionendpoint"):
        for name in _AMAZON_ONLY:
            if as_switch(plain.get(name)):
                findings.problem(
                    (*path, name),
                    "is a way to Amazon's own addresses; remove it, or regionendpoint",
                )
    elif not region:
        findings.problem(
            (*path, "region"),
            "is missing; name the region of the bucket, such as eu-central-1, or with "
            "regionendpoint the address of a store that is not Amazon's",
        )
    elif _REGION.fullmatch(region) and not _REGION_OF_AMAZON.fullmatch(region):
        findings.problem(
            (*path, "region"),
            f"{quote(region)} is not a region of Amazon's, such as eu-central-1; for another store "
            "set regionendpoint to its address",
        )


def _check_credentials(path: KeyPath, plain: Mapping[str, Any], findings: Findings) -> None:
    for one, other in (("accesskey", "secretkey"), ("secretkey", "accesskey")):
        if plain.get(one) and not plain.get(other):
            findings.problem(
                (*path, other),
                f"is missing; {one} is set. Without both, credentials come from the environment, a "
                "profile or the machine's role",
            )


def _number(text: object, default: int) -> int:
    """What is no number is reported elsewhere."""
    try:
        return default if text is None else int(str(text))
    except ValueError:
        return default
