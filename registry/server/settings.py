"""How the server listens, what it puts up with from a client, and how it stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ClientAuth = Literal[
    "request-client-cert",
    "require-any-client-cert",
    "verify-client-cert-if-given",
    "require-and-verify-client-cert",
]
MinimumTLS = Literal["tls1.0", "tls1.1", "tls1.2", "tls1.3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSettings:
    """Paths of PEM files. With `clientcas`, clients prove who they are as `clientauth` says."""

    certificate: str
    key: str
    minimumtls: MinimumTLS = "tls1.2"
    ciphersuites: tuple[str, ...] = ()
    """For TLS 1.2, by Go's names or OpenSSL's; none means a choice of modern ones."""
    clientcas: tuple[str, ...] = ()
    clientauth: ClientAuth = "require-and-verify-client-cert"
    hsts: float = 0.0
    """Seconds for which browsers are told to use TLS only with this host; 0 tells them nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """All times are in seconds. Raises ValueError, in a sentence that names the setting."""

    addr: tuple[str, int] | str
    """Host and port (no host: every interface), or the path of a unix socket."""

    workers: int = 1
    tls: TLSSettings | None = None
    proxyprotocol: tuple[str, ...] | None = None
    """Networks, or "unix", of the balancers that announce clients in PROXY headers; None if none do."""

    draindelay: float = 2.0
    """From SIGTERM, or from a failing readiness check, to the last connection accepted."""
    draintimeout: float = 60.0
    """Longest wait, after that, for requests in flight."""

    header_timeout: float = 10.0
    """From the first byte of a request, or from the connection, to the end of its headers."""
    body_timeout: float = 60.0
    """Longest silence while the body is waited for."""
    write_timeout: float = 60.0
    """Longest time in which the client takes nothing of an answer."""
    keepalive_timeout: float = 75.0
    """Longest silence between requests."""

    max_header_bytes: int = 16384
    """Request line and headers together; also the trailers of a chunked body."""
    max_headers: int = 100
    max_connections: int | None = None
    """Per worker; further ones are answered 503."""

    def __post_init__(self) -> None:
        for name in ("draindelay", "draintimeout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be zero or more.")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be more than zero.")


_POSITIVE = (
    "workers",
    "header_timeout",
    "body_timeout",
    "write_timeout",
    "keepalive_timeout",
    "max_header_bytes",
    "max_headers",
    "max_connections",
)
