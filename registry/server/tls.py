"""The TLS context of the server's own certificate."""

from __future__ import annotations

import ssl
from typing import Final

from .settings import TLSSettings

_VERSIONS: Final = {
    "tls1.0": ssl.TLSVersion.TLSv1,
    "tls1.1": ssl.TLSVersion.TLSv1_1,
    "tls1.2": ssl.TLSVersion.TLSv1_2,
    "tls1.3": ssl.TLSVersion.TLSv1_3,
}


class CannotSecure(Exception):
    """One sentence for whoever starts the server."""


def context(settings: TLSSettings) -> ssl.SSLContext:
    """Raises CannotSecure."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = _VERSIONS[settings.minimumtls]
    tls.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    tls.set_alpn_protocols(["http/1.1"])
    try:
        tls.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise CannotSecure(
            f"Cannot use the certificate {settings.certificate} with the key {settings.key}: "
            f"{error.strerror or error}; correct http.tls."
        ) from None
    for path in settings.clientcas:
        try:
            tls.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise CannotSecure(
                f"Cannot read the client CA {path}: {error.strerror or error}; "
                "correct http.tls.clientcas."
            ) from None
    if settings.clientcas:
        required = settings.clientauth.startswith("require")
        tls.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return tls
