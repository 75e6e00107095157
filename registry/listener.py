"""What the configuration says of the server below the application: sockets, TLS, processes and patience."""

from __future__ import annotations

import os

from registry.config import Settings, TcpEndpoint
from registry.server.settings import ServerSettings, TLSSettings

CORES = os.cpu_count() or 1


def workers_of(settings: Settings) -> int:
    """What is in memory is in one process only, so its workers cannot be several."""
    if settings.storage.driver == "inmemory":
        return 1
    return settings.http.workers or CORES


def tls_settings(settings: Settings) -> TLSSettings | None:
    """None for plain HTTP."""
    tls = settings.http.tls
    if tls.certificate is None or tls.key is None:
        return None
    return TLSSettings(
        certificate=str(tls.certificate),
        key=str(tls.key),
        minimumtls=tls.minimumtls,
        clientcas=tuple(map(str, tls.clientcas)),
        clientauth=tls.clientauth,
        ciphersuites=tuple(tls.ciphersuites),
        hsts=tls.hsts,
    )


def server_settings(settings: Settings, workers: int) -> ServerSettings:
    http, limits = settings.http, settings.http.limits
    endpoint = http.endpoint
    return ServerSettings(
        addr=(endpoint.host, endpoint.port)
        if isinstance(endpoint, TcpEndpoint)
        else str(endpoint.path),
        workers=workers,
        tls=tls_settings(settings),
        proxyprotocol=tuple(http.trustedproxies) if http.proxyprotocol else None,
        draindelay=http.draindelay,
        draintimeout=http.draintimeout,
        header_timeout=limits.headertimeout,
        body_timeout=limits.bodytimeout,
        write_timeout=limits.writetimeout,
        keepalive_timeout=limits.keepalivetimeout,
        max_header_bytes=limits.headerbytes,
        max_headers=limits.headers,
    )
