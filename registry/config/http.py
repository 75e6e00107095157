"""The section `http`: where the registry listens, what it says of itself, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from registry.config.section import Section
from registry.config.values import (
    Address,
    BaseUrl,
    File,
    Headers,
    HostName,
    Network,
    Prefix,
    Seconds,
    Secret,
    Switch,
    Text,
    Timeout,
    Unused,
    UrlPath,
    choice,
    split_address,
    whole,
)
from registry.server.ciphers import openssl_name


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    host: str  # "" is every interface
    port: int  # 0 is any that is free


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    path: Path


class LetsEncrypt(Section):
    cachefile: Unused = None
    email: Unused = None
    hosts: Unused = None
    directoryurl: Unused = None


ClientAuth = Literal[
    "request-client-cert",
    "require-any-client-cert",
    "verify-client-cert-if-given",
    "require-and-verify-client-cert",
]


def _cipher(name: str) -> str:
    openssl_name(name)
    return name


Cipher: TypeAlias = Annotated[Text, AfterValidator(_cipher)]


class Tls(Section):
    certificate: File | None = None
    key: File | None = None
    clientcas: list[File] = Field(default_factory=list)
    clientauth: Annotated[
        ClientAuth,
        choice(
            "request-client-cert",
            "require-any-client-cert",
            "verify-client-cert-if-given",
            "require-and-verify-client-cert",
        ),
    ] = "require-and-verify-client-cert"
    minimumtls: Annotated[Literal["tls1.2", "tls1.3"], choice("tls1.2", "tls1.3")] = "tls1.2"
    ciphersuites: list[Cipher] = Field(default_factory=list)
    hsts: Seconds = 0.0
    letsencrypt: LetsEncrypt | None = None


class Prometheus(Section):
    enabled: Switch = False
    path: UrlPath = "/metrics"


class Debug(Section):
    addr: Address = ""
    prometheus: Prometheus = Field(default_factory=Prometheus)


class Http2(Section):
    disabled: Switch = False


class H2c(Section):
    enabled: Switch = False


class Limits(Section):
    """What a client may take of time and memory, and how long it waits for the storage."""

    headertimeout: Timeout = 10.0
    bodytimeout: Timeout = 60.0
    writetimeout: Timeout = 60.0
    keepalivetimeout: Timeout = 75.0
    storagetimeout: Timeout = 30.0
    headerbytes: Annotated[int, whole(1024, 1024 * 1024)] = 16384
    headers: Annotated[int, whole(10, 10_000)] = 100


class Http(Section):
    addr: Text = ":5000"
    net: Annotated[Literal["tcp", "unix"], choice("tcp", "unix")] = "tcp"
    prefix: Prefix = ""
    host: BaseUrl = ""
    hosts: list[HostName] = Field(default_factory=list)
    secret: Secret = Field(default="", repr=False)
    relativeurls: Switch = False
    draintimeout: Seconds = 60.0
    draindelay: Seconds = 2.0
    workers: Annotated[int, whole(0, 512)] = 0
    trustedproxies: list[Network] = Field(default_factory=list)
    proxyprotocol: Switch = False
    accelredirect: Prefix = ""
    headers: Headers = Field(default_factory=dict)
    limits: Limits = Field(default_factory=Limits)
    tls: Tls = Field(default_factory=Tls)
    debug: Debug = Field(default_factory=Debug)
    http2: Http2 | None = None
    h2c: H2c | None = None

    @property
    def endpoint(self) -> TcpEndpoint | UnixEndpoint:
        """Where to listen. Raises ValueError in sections that were built in code and not checked."""
        if self.net == "unix":
            return UnixEndpoint(Path(self.addr))
        return TcpEndpoint(*split_address(self.addr))
