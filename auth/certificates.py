"""Certificates as a source of keys: Distribution's `rootcertbundle`.

The key of every certificate in the bundle is trusted under its RFC 7638 thumbprint (Distribution 3)
and under its libtrust fingerprint (Distribution 2). A chain that a token brings (`x5c`) is trusted if
it leads to a certificate of the bundle, whatever its purpose; an expired certificate leads nowhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.x509.oid import ExtensionOID

from auth.jwk import BadKey, VerificationKey, from_public, libtrust_fingerprint
from auth.watched import INTERVAL, WatchedFile

log = logging.getLogger("holdfast.auth")

_UNDERSTOOD: Final = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    )
)


@dataclass(frozen=True, slots=True)
class _Bundle:
    keys: Mapping[str, VerificationKey]
    certificates: tuple[x509.Certificate, ...]


class CertificateKeys:
    """A bundle of certificates in PEM, read again when it changes."""

    certifies = True

    def __init__(
        self,
        path: str,
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises watched.Unusable if the file cannot be used."""
        self._interval = interval
        self._clock = clock
        self._wall_clock = wall_clock
        self._looked = clock()
        self._file = WatchedFile(
            path,
            lambda data: _parse(data, path),
            what="The certificate bundle",
            interval=interval,
            clock=clock,
        )

    @property
    def problem(self) -> str | None:
        return self._file.problem

    def find(self, kid: str) -> VerificationKey | None:
        return self._current().keys.get(kid)

    def at_hand(self, kid: str) -> VerificationKey | None:
        if self._clock() - self._looked >= self._interval:
            return None
        return self._file.content.keys.get(kid)

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        bundle = self._current()
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        try:
            first, *others = (x509.load_der_x509_certificate(der) for der in chain)
            if first in bundle.certificates:
                trusted = first.not_valid_before_utc <= now <= first.not_valid_after_utc
            else:
                trusted = _leads(first, others, bundle.certificates, now)
            return from_public(first.public_key()) if trusted else None
        except (ValueError, x509.DuplicateExtension) as error:  # much is parsed only when asked for
            log.info("A token's x5c is refused: %s", error)
            return None

    def _current(self) -> _Bundle:
        self._looked = self._clock()
        self._file.refresh()
        return self._file.content


def _leads(
    first: x509.Certificate,
    others: list[x509.Certificate],
    roots: tuple[x509.Certificate, ...],
    now: datetime,
) -> bool:
    """Whether `first` is signed by a root, or by one of `others` that is.

    RFC 5280 section 6.1 as far as it concerns a key for signing tokens: what the web asks of a
    certificate (a host name, a use for TLS, version 3) is not asked, since token servers have what
    `openssl x509 -req` makes. Each certificate is followed once, so the work is bounded.
    """
    following = [(first, 0)]
    left = list(others)
    for certificate, below in following:
        if not _serves(certificate, now):
            continue
        if any(_serves(root, now) and _signs(root, certificate, below, True) for root in roots):
            return True
        signers = [other for other in left if _signs(other, certificate, below, False)]
        left = [other for other in left if other not in signers]
        following += [(signer, below + 1) for signer in signers]
    log.info("A token's x5c leads to no trusted certificate: %s", first.subject.rfc4514_string())
    return False


def _serves(certificate: x509.Certificate, now: datetime) -> bool:
    in_time = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    # A constraint that is not understood may be one that is violated.
    return in_time and all(
        extension.oid in _UNDERSTOOD for extension in certificate.extensions if extension.critical
    )


def _signs(
    signer: x509.Certificate, certificate: x509.Certificate, below: int, trusted: bool
) -> bool:
    """Whether `signer` is an authority and has signed `certificate`, with `below` authorities under it."""
    if signer.subject != certificate.issuer or not _is_authority(signer, below, trusted):
        return False
    if isinstance(certificate.signature_hash_algorithm, SHA1 | MD5):
        return False
    try:
        certificate.verify_directly_issued_by(signer)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True


def _is_authority(certificate: x509.Certificate, below: int, trusted: bool) -> bool:
    extensions = certificate.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        # Version 1 cannot say it, so the operator's word counts.
        return trusted and certificate.version is x509.Version.v1
    if not constraints.ca or (
        constraints.path_length is not None and below > constraints.path_length
    ):
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _parse(data: bytes, path: str) -> _Bundle:
    try:
        certificates = tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise ValueError("is not a bundle of certificates in PEM.") from error
    keys: dict[str, VerificationKey] = {}
    for certificate in certificates:
        try:
            key = from_public(certificate.public_key())
        except ValueError as error:  # BadKey is one
            log.warning(
                "The certificate of %s in %s verifies no tokens: its key %s.",
                certificate.subject.rfc4514_string(),
                path,
                error if isinstance(error, BadKey) else "cannot be read",
            )
            continue
        if not isinstance(key.public, bytes):
            keys[libtrust_fingerprint(key.public)] = keys[key.kid] = key
    return _Bundle(keys, certificates)
