"""Private keys that sign tokens, and the PEM in which each is kept: the key, then its own certificate.

The certificate is for Distribution, which knows a key by a certificate in its `rootcertbundle`; a PEM
without one serves as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from auth.jwk import BadKey, VerificationKey, from_public

Algorithm = Literal["ES256", "EdDSA"]

_CERTIFIED: Final = timedelta(days=20 * 365)
"""Nothing here looks at it: a key is trusted until it is taken away."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    kid: str
    algorithm: Algorithm
    private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    verification: VerificationKey
    certificate: bytes | None = None
    """DER."""

    def sign(self, data: bytes) -> bytes:
        return jwt.get_algorithm_by_name(self.algorithm).sign(data, self.private)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r}, {self.algorithm!r})"


def generate(algorithm: Algorithm, now: datetime) -> tuple[SigningKey, bytes]:
    """A new key with its certificate, and the PEM to keep."""
    private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if algorithm == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = ed25519.Ed25519PrivateKey.generate()
    verification = from_public(private.public_key())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Holdfast"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"token key {verification.kid}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _CERTIFIED)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, SHA256() if algorithm == "ES256" else None)
    )
    kept = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = SigningKey(
        verification.kid, algorithm, private, verification, certificate.public_bytes(Encoding.DER)
    )
    return key, kept + certificate.public_bytes(Encoding.PEM)


def from_pem(data: bytes) -> SigningKey:
    """Raises BadKey."""
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey("is not an unencrypted private key in PEM") from error
    if isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm: Algorithm = "EdDSA"
    elif isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name == "secp256r1":
        algorithm = "ES256"
    else:
        raise BadKey("is of a type that does not sign here; use EC P-256 or Ed25519")
    verification = from_public(private.public_key())
    return SigningKey(
        verification.kid, algorithm, private, verification, _certificate(data, verification)
    )


def _certificate(data: bytes, key: VerificationKey) -> bytes | None:
    for found in _CERTIFICATE.finditer(data):
        try:
            certificate = x509.load_pem_x509_certificate(found.group())
            if from_public(certificate.public_key()).kid == key.kid:
                return certificate.public_bytes(Encoding.DER)
        except ValueError as error:  # BadKey is one
            raise BadKey("has a certificate beside it that cannot be read") from error
    return None


def pem_certificate(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
