"""Sections of Distribution that have no effect in this version, known so that their keys are too.

Their values are kept as written and never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import Field

from registry.config.section import Section
from registry.config.values import Unused


class Events(Section):
    includereferences: Unused = None


class Ignore(Section):
    mediatypes: Unused = None
    actions: Unused = None


class Endpoint(Section):
    name: Unused = None
    disabled: Unused = None
    url: Unused = None
    headers: Unused = None
    timeout: Unused = None
    threshold: Unused = None
    backoff: Unused = None
    ignoredmediatypes: Unused = None
    ignore: Ignore | None = None


class Notifications(Section):
    variables: ClassVar[Mapping[str, str]] = {"eventconfig": "events"}

    events: Events | None = None
    endpoints: list[Endpoint] = Field(default_factory=list)


class Exec(Section):
    command: Unused = None
    lifetime: Unused = None


class Proxy(Section):
    remoteurl: Unused = None
    remotenamespace: Unused = None
    username: Unused = None
    password: Unused = None
    exec: Exec | None = None
    ttl: Unused = None
    cachewritetimeout: Unused = None


class RedisTls(Section):
    enabled: Unused = None
    certificate: Unused = None
    key: Unused = None
    rootcas: Unused = None
    clientcas: Unused = None


class RedisPool(Section):
    maxidle: Unused = None
    maxactive: Unused = None
    idletimeout: Unused = None


class Redis(Section):
    addr: Unused = None
    addrs: Unused = None
    clientname: Unused = None
    db: Unused = None
    protocol: Unused = None
    username: Unused = None
    password: Unused = None
    sentinelusername: Unused = None
    sentinelpassword: Unused = None
    mastername: Unused = None
    maxretries: Unused = None
    minretrybackoff: Unused = None
    maxretrybackoff: Unused = None
    dialtimeout: Unused = None
    readtimeout: Unused = None
    writetimeout: Unused = None
    contexttimeoutenabled: Unused = None
    poolfifo: Unused = None
    poolsize: Unused = None
    pooltimeout: Unused = None
    minidleconns: Unused = None
    maxidleconns: Unused = None
    maxactiveconns: Unused = None
    connmaxidletime: Unused = None
    connmaxlifetime: Unused = None
    maxredirects: Unused = None
    readonly: Unused = None
    routebylatency: Unused = None
    routerandomly: Unused = None
    disableidentity: Unused = None
    disableindentity: Unused = None
    identitysuffix: Unused = None
    unstableresp3: Unused = None
    pool: RedisPool | None = None
    tls: RedisTls | None = None


class Middleware(Section):
    name: Unused = None
    disabled: Unused = None
    options: Unused = None


class Classes(Section):
    classes: Unused = None


class Policy(Section):
    repository: Classes | None = None


class Bugsnag(Section):
    apikey: Unused = None
    releasestage: Unused = None
    endpoint: Unused = None


class NewRelic(Section):
    licensekey: Unused = None
    name: Unused = None
    verbose: Unused = None


class Reporting(Section):
    bugsnag: Bugsnag | None = None
    newrelic: NewRelic | None = None


class Schema1(Section):
    variables: ClassVar[Mapping[str, str]] = {"trustkey": "signingkeyfile"}

    signingkeyfile: Unused = None
    enabled: Unused = None


class Compatibility(Section):
    schema1: Schema1 | None = None


WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "notifications": "nobody is notified of pushes, pulls and deletes",
    "proxy": "the registry is no mirror of another",
    "redis": "every worker keeps its own cache in memory",
    "middleware": "no middleware is loaded",
    "policy": "content of every class is accepted",
    "reporting": "errors are reported in the log alone",
    "compatibility": "schema 1 manifests are refused",
    "log.hooks": "no mail is sent",
    "log.reportcaller": "log lines do not name the code they come from",
    "health.file": "only the storage is checked",
    "health.http": "only the storage is checked",
    "health.tcp": "only the storage is checked",
    "storage.s3.loglevel": "what goes wrong in S3 is in the log of the registry",
    "storage.s3aws.loglevel": "what goes wrong in S3 is in the log of the registry",
    "http.debug": "metrics and health are served at http.addr",
    "http.h2c": "the registry speaks HTTP/1.1; put a proxy in front for HTTP/2",
}
"""What is warned of when it is set, and how the registry behaves instead."""
