"""The section `storage`: one driver, and what the registry does with what it keeps.

Drivers that this version does not have are known by their keys, so that a configuration that names
one is refused for that and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from registry.config.section import CHOICE, Section
from registry.config.values import File, Switch, Timeout, Unused, choice, whole

FEWEST_THREADS: Final = 25  # Distribution raises what is lower


class Filesystem(Section):
    rootdirectory: File = Path("/var/lib/registry")
    maxthreads: Annotated[int, whole(0), AfterValidator(lambda n: max(n, FEWEST_THREADS))] = 100


class InMemory(Section):
    pass


class S3(Section):
    accesskey: Unused = None
    secretkey: Unused = None
    bucket: Unused = None
    region: Unused = None
    regionendpoint: Unused = None
    forcepathstyle: Unused = None
    encrypt: Unused = None
    keyid: Unused = None
    secure: Unused = None
    skipverify: Unused = None
    v4auth: Unused = None
    chunksize: Unused = None
    multipartcopychunksize: Unused = None
    multipartcopymaxconcurrency: Unused = None
    multipartcopythresholdsize: Unused = None
    rootdirectory: Unused = None
    storageclass: Unused = None
    useragent: Unused = None
    objectacl: Unused = None
    usedualstack: Unused = None
    accelerate: Unused = None
    usefipsendpoint: Unused = None
    loglevel: Unused = None
    redirectendpoint: Unused = None


class Delete(Section):
    enabled: Switch = False


class Redirect(Section):
    disable: Switch = False


CacheKind = Annotated[Literal["inmemory", "redis"], choice("inmemory", "redis")]


class Cache(Section):
    blobdescriptor: CacheKind | None = None
    layerinfo: CacheKind | None = None  # deprecated by Distribution
    blobdescriptorsize: Annotated[int, whole(0)] = 10_000


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
    def driver(self) -> Literal["filesystem", "inmemory"]:
        """The one that is not None."""
        return "inmemory" if self.filesystem is None else "filesystem"


DRIVERS: Final = ("filesystem", "inmemory")
OTHER_DRIVERS: Final = ("s3", "s3aws", "azure", "gcs", "oss", "swift", "rados")
