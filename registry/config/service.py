"""The sections of what the service says, checks and allows: log, health, listings, validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from registry.config.section import Section
from registry.config.values import (
    Address,
    Headers,
    Pattern,
    Secret,
    Switch,
    Text,
    Timeout,
    Unused,
    choice,
    or_default,
    whole,
)

Level = Annotated[
    Literal["debug", "info", "warn", "error"],
    choice("debug", "info", "warn", "error", warning="warn"),
]
Often = Annotated[int, whole(-(2**53)), or_default(1)]
Most = Annotated[int, whole(-(2**53)), or_default(1000)]


class AccessLog(Section):
    disabled: Switch = False


class Log(Section):
    accesslog: AccessLog = Field(default_factory=AccessLog)
    level: Level = "info"
    formatter: Annotated[Literal["text", "json"], choice("text", "json", logstash="json")] = "text"
    fields: dict[str, Text] = Field(default_factory=dict)
    hooks: list[Unused] = Field(default_factory=list)
    reportcaller: Switch = False


class StorageCheck(Section):
    enabled: Switch = True
    interval: Timeout = 10.0
    threshold: Often = 3


class FileCheck(Section):
    file: Text = ""
    interval: Timeout = 10.0
    threshold: Often = 1


class HttpCheck(Section):
    uri: Secret = Field(default="", repr=False)
    headers: Headers = Field(default_factory=dict, repr=False)
    statuscode: Annotated[int, whole(100, 599)] = 200
    timeout: Timeout | None = None
    interval: Timeout = 10.0
    threshold: Often = 1


class TcpCheck(Section):
    addr: Address = ""
    timeout: Timeout | None = None
    interval: Timeout = 10.0
    threshold: Often = 1


class Health(Section):
    variables: ClassVar[Mapping[str, str]] = {
        "filecheckers": "file",
        "httpcheckers": "http",
        "tcpcheckers": "tcp",
    }

    storagedriver: StorageCheck = Field(default_factory=StorageCheck)
    file: list[FileCheck] = Field(default_factory=list)
    http: list[HttpCheck] = Field(default_factory=list)
    tcp: list[TcpCheck] = Field(default_factory=list)


class Catalog(Section):
    maxentries: Most = 1000


class Tags(Section):
    maxtags: Most = 1000


class Urls(Section):
    allow: list[Pattern] = Field(default_factory=list)
    deny: list[Pattern] = Field(default_factory=list)


class Platform(Section):
    architecture: Text = ""
    os: Text = ""


class Indexes(Section):
    platforms: Annotated[Literal["all", "none", "list"], choice("all", "none", "list")] = "all"
    platformlist: list[Platform] = Field(default_factory=list)


class Manifests(Section):
    urls: Urls = Field(default_factory=Urls)
    indexes: Indexes = Field(default_factory=Indexes)


class Validation(Section):
    disabled: Switch = False
    enabled: Switch = False  # deprecated by Distribution: true outweighs `disabled`
    manifests: Manifests = Field(default_factory=Manifests)


class Uploads(Section):
    minchunk: Annotated[int, whole(0)] = 0
