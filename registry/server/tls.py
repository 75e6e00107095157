"""The TLS context of the server's own certificate, made anew from its files whenever they change.

Compression and renegotiation are off. TLS 1.3 sends no session tickets and takes no early data: the
clients of registries do not resume sessions, and a ticket would outlive the trust in a client's
certificate. ALPN offers http/1.1 alone.
"""

from __future__ import annotations

import os
import shlex
import ssl
import stat
from typing import Any, Final

from .ciphers import openssl_names
from .handshake import Handshake
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
    """Read the files. Blocks. Raises CannotSecure."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.sslobject_class = Handshake
    tls.minimum_version = _VERSIONS[settings.minimumtls]
    tls.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # All that is offered is good, and the client knows which its processor does best.
    tls.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    tls.num_tickets = 0
    tls.set_alpn_protocols(["http/1.1"])
    _choose_ciphers(tls, settings)
    _load_certificate(tls, settings)
    for path in settings.clientcas:
        try:
            tls.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise CannotSecure(
                f"Cannot read the client CA {path}: {_reason(error)}; correct http.tls.clientcas."
            ) from None
    if settings.clientcas:
        tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a listed authority need not be a root
        required = settings.clientauth.startswith("require")
        tls.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return tls


def warnings(settings: TLSSettings) -> list[str]:
    """What the operator should know at the start, a sentence each. Blocks; never raises."""
    found = []
    try:
        mode = os.stat(settings.key).st_mode
    except OSError:
        mode = 0  # loading it tells why
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        who = "everybody on this machine" if mode & stat.S_IRWXO else "the group of its file"
        real = os.path.realpath(settings.key)
        link = "" if real == os.path.abspath(settings.key) else f" (a symbolic link to {real})"
        found.append(
            f"The private key {settings.key}{link} is open to {who} (mode "
            f"{stat.S_IMODE(mode):04o}); give it mode 0600, owned by the registry's user."
        )
    if settings.clientcas and settings.clientauth in (
        "request-client-cert",
        "require-any-client-cert",
    ):
        stricter = (
            "verify-client-cert-if-given"
            if settings.clientauth == "request-client-cert"
            else "require-and-verify-client-cert"
        )
        found.append(
            f"http.tls.clientauth: {settings.clientauth} is taken as {stricter}: a client certificate "
            "of an authority that http.tls.clientcas does not name is refused."
        )
    return found


def _choose_ciphers(tls: ssl.SSLContext, settings: TLSSettings) -> None:
    try:
        suites = openssl_names(settings.ciphersuites)
    except ValueError as error:
        raise CannotSecure(f"http.tls.ciphersuites: {error}.") from None
    if suites:
        tls.set_ciphers(":".join(suites))
    else:
        tls.minimum_version = ssl.TLSVersion.TLSv1_3


def _load_certificate(tls: ssl.SSLContext, settings: TLSSettings) -> None:
    def no_password() -> str:  # or OpenSSL would ask for one on the terminal, and wait
        raise CannotSecure(
            f"The private key {settings.key} is encrypted; store it decrypted, for instance with "
            "'openssl pkey', with mode 0600."
        )

    for what, path, key in (
        ("certificate", settings.certificate, "certificate"),
        ("private key", settings.key, "key"),
    ):
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            raise CannotSecure(
                f"The {what} {path} cannot be read: {error.strerror}. {_remedy(path, key, error)}"
            ) from None
    try:
        tls.load_cert_chain(settings.certificate, settings.key, no_password)
    except (OSError, ssl.SSLError) as error:
        raise CannotSecure(
            f"Cannot use the certificate {settings.certificate} with the key {settings.key}: "
            f"{_reason(error)}; correct http.tls."
        ) from None


def _remedy(path: str, key: str, error: OSError) -> str:
    user = f"{os.geteuid()}:{os.getegid()}"
    if isinstance(error, PermissionError):
        return (
            f"Run as root: chown {user} {shlex.quote(path)} (and let {user} enter its directory), or "
            f"correct http.tls.{key}."
        )
    directory = shlex.quote(os.path.dirname(path) or ".")
    return f"Look with: ls -l {directory}; put it there, or correct http.tls.{key}."


_REASONS: Final = {
    "KEY_VALUES_MISMATCH": "the key is not the one of the certificate",
    "EE_KEY_TOO_SMALL": "its key is too short, make one of 2048 bits or more",
    "NO_START_LINE": "it holds no PEM",
    "NO_CERTIFICATE_OR_CRL_FOUND": "it holds no certificate",
}


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    known = _REASONS.get(reason) if reason else None
    if known is not None:
        return known
    if isinstance(error, ssl.SSLError):
        return f"it is no whole PEM file of its kind ({reason or error.strerror or error})"
    return error.strerror or str(error)


def extension(connection: ssl.SSLObject) -> dict[str, Any]:
    """The extension `tls` of a request's scope, by the names of the ASGI specification.

    `client_cert_name` is the one common name of the subject of a client certificate that
    http.tls.clientcas vouch for, which is the only kind a handshake lets through; else None.
    """
    certificate: Any = connection.getpeercert() or {}
    names = [
        value
        for attributes in certificate.get("subject", ())
        for name, value in attributes
        if name == "commonName"
    ]
    usable = len(names) == 1 and names[0].isprintable() and names[0].strip() == names[0] != ""
    return {
        "server_cert": None,
        "client_cert_chain": (),
        "client_cert_name": names[0] if usable else None,
        "client_cert_error": None,
        "tls_version": {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}.get(connection.version() or ""),
        "cipher_suite": None,
    }
