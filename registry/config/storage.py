"""The section `storage`: one driver, and what the registry does with what it keeps.

Drivers that this version does not have are known by their keys, so that a configuration that names
one is refused for that and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from registry.config.s3 import S3, S3_NAMES
from registry.config.section import CHOICE, Section
from registry.config.values import (
    File,
    IpNetwork,
    Seconds,
    Switch,
    Text,
    Timeout,
    Unused,
    choice,
    whole,
)

FEWEST_THREADS: Final = 25  # Distribution raises what is lower


class Filesystem(Section):
    rootdirectory: File = Path("/var/lib/registry")
    maxthreads: Annotated[int, whole(0), AfterValidator(lambda n: max(n, FEWEST_THREADS))] = 100


class InMemory(Section):
    pass


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("is empty, which every client's User-Agent contains; remove it")
    return value


class Delete(Section):
    enabled: Switch = False


class Redirect(Section):
    disable: Switch = False
    disablefor: list[IpNetwork] = Field(default_factory=list)
    disableforagents: list[Annotated[Text, AfterValidator(_not_empty)]] = Field(
        default_factory=list
    )


CacheKind = Annotated[Literal["inmemory", "redis"], choice("inmemory", "redis")]


class Cache(Section):
    blobdescriptor: CacheKind | None = None
    layerinfo: CacheKind | None = None  # deprecated by Distribution
    blobdescriptorsize: Annotated[int, whole(0)] = 10_000
    tagttl: Seconds = 0.0


class Tag(Section):
    concurrencylimit: Annotated[int, whole(0, 10_000)] = 0


class UploadPurging(Section):
    scalar_sets: ClassVar[str | None] = "enabled"

    enabled: Switch = True
    age: Timeout = 168 * 3600.0
    interval: Timeout = 24 * 3600.0
    dryrun: Switch = False


class ReadOnly(Section):
    scalar_sets: ClassVar[str | None] = "enabled"

    enabled: Switch = False


class Maintenance(Section):
    uploadpurging: UploadPurging = Field(default_factory=UploadPurging)
    readonly: ReadOnly = Field(default_factory=ReadOnly)


class Storage(Section):
    scalar_sets: ClassVar[str | None] = CHOICE

    filesystem: Filesystem | None = None
    inmemory: InMemory | None = None
    s3: S3 | None = None
    s3aws: S3 | None = None
    azure: dict[str, Unused] | None = None
    gcs: dict[str, Unused] | None = None
    oss: dict[str, Unused] | None = None
    swift: dict[str, Unused] | None = None
    rados: dict[str, Unused] | None = None
    delete: Delete = Field(default_factory=Delete)
    redirect: Redirect = Field(default_factory=Redirect)
    cache: Cache = Field(default_factory=Cache)
    tag: Tag = Field(default_factory=Tag)
    maintenance: Maintenance = Field(default_factory=Maintenance)

    @property
    def driver(self) -> Literal["filesystem", "inmemory", "s3"]:
        """The one that is not None."""
        if self.bucket is not None:
            return "s3"
        return "inmemory" if self.filesystem is None else "filesystem"

    @property
    def bucket(self) -> S3 | None:
        """The section of the S3 driver, which has two names."""
        return self.s3 or self.s3aws


DRIVERS: Final = ("filesystem", "inmemory", *S3_NAMES)
OTHER_DRIVERS: Final = ("azure", "gcs", "oss", "swift", "rados")
