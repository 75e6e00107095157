"""Public keys that verify tokens, each with the algorithms that it may be used with and no others.

The type of the key decides, never the token: a public key cannot be taken for the secret of an HMAC,
nor a curve for another one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from auth.jose import encode

ASYMMETRIC: Final = (
    *("ES256", "ES384", "ES512", "EdDSA"),
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
)
"""What is accepted where the operator names nothing."""

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
"""Accepted only if the operator names them; `none` is not accepted at all."""

SMALLEST_RSA: Final = 2048

Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_CURVES: Final = {
    "secp256r1": ("P-256", "ES256"),
    "secp384r1": ("P-384", "ES384"),
    "secp521r1": ("P-521", "ES512"),
}
_PUBLIC_MEMBERS: Final = ("kty", "crv", "x", "y", "n", "e", "k")


class BadKey(ValueError):
    """The text says what is wrong, to be put after the name of the key."""


class KeysUnavailable(Exception):
    """The keys could not be read so far, so nothing can be said of a token. Worth trying again."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VerificationKey:
    kid: str
    algorithms: frozenset[str]
    public: Public | bytes
    """Bytes are the secret of an HMAC."""

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """False for an algorithm that is not this key's. Compares in constant time."""
        if algorithm not in self.algorithms:
            return False
        return bool(jwt.get_algorithm_by_name(algorithm).verify(signed, self.public, signature))


class KeySource(Protocol):
    """Where the keys of a token's issuer come from."""

    def find(self, kid: str) -> VerificationKey | None:
        """The trusted key of that name. May wait for a disk or for another server, within bounds.

        Raises KeysUnavailable if no keys could be had so far.
        """

    def at_hand(self, kid: str) -> VerificationKey | None:
        """The same without waiting; None also if it cannot be told without."""

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        """The key of the first of these certificates (DER), if the chain leads to a trusted one.

        May wait, and raise, as find() does.
        """

    @property
    def problem(self) -> str | None:
        """Why the keys in force are not what the operator meant, for whoever runs this; or None."""

    @property
    def certifies(self) -> bool:
        """Whether there are certificates to hold a chain against; without them `x5c` means nothing."""


def from_public(public: object, kid: str | None = None) -> VerificationKey:
    """The key under its RFC 7638 thumbprint unless `kid` is given. Raises BadKey."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        if public.curve.name not in _CURVES:
            raise BadKey(f"is on the curve {public.curve.name}; use P-256, P-384 or P-521")
        algorithms = frozenset((_CURVES[public.curve.name][1],))
    elif isinstance(public, ed25519.Ed25519PublicKey):
        algorithms = frozenset(("EdDSA",))
    elif isinstance(public, rsa.RSAPublicKey):
        if public.key_size < SMALLEST_RSA:
            raise BadKey(f"has {public.key_size} bits; RSA keys need {SMALLEST_RSA} at least")
        algorithms = frozenset(name for name in ASYMMETRIC if name[:2] in ("RS", "PS"))
    else:
        raise BadKey("is of a type that signs no tokens; use EC, Ed25519 or RSA")
    return VerificationKey(kid or thumbprint(public), algorithms, public)


def from_jwk(members: Mapping[str, Any]) -> VerificationKey | None:
    """None for a key with another purpose than verifying signatures. Raises BadKey."""
    kid = members.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise BadKey("has a kid that is not a string")
    operations = members.get("key_ops", ["verify"])
    if members.get("use", "sig") != "sig" or "verify" not in operations:
        return None
    public = {name: members[name] for name in _PUBLIC_MEMBERS if name in members}
    if not all(isinstance(member, str) for member in public.values()):
        raise BadKey("has a member that is not a string")
    try:
        key = _loaded(public, kid)
    except (jwt.PyJWTError, ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(f"cannot be read: {error}") from error
    if "alg" not in members:
        return key
    if members["alg"] not in key.algorithms:
        raise BadKey(f"names the algorithm {members['alg']!r}, which is not one of its type")
    return VerificationKey(key.kid, frozenset((members["alg"],)), key.public)


def _loaded(members: dict[str, Any], kid: str | None) -> VerificationKey:
    match members.get("kty"):
        case "RSA":
            return from_public(RSAAlgorithm.from_jwk(members), kid)
        case "EC":
            return from_public(ECAlgorithm.from_jwk(members), kid)
        case "OKP":
            return from_public(OKPAlgorithm.from_jwk(members), kid)
        case "oct":
            secret = HMACAlgorithm.from_jwk(members)
            # RFC 7518 section 3.2: no shorter than what the hash puts out.
            fitting = frozenset(name for name in SYMMETRIC if len(secret) * 8 >= int(name[2:]))
            if not fitting:
                raise BadKey("is a secret of less than 32 bytes")
            return VerificationKey(kid or "", fitting, secret)
        case other:
            raise BadKey(f"is of the unknown type {other!r}")


def to_jwk(key: VerificationKey) -> dict[str, str]:
    """The public JWK (RFC 7517) as it is published."""
    if isinstance(key.public, bytes):
        raise BadKey("is a secret and is not published")
    members = _required_members(key.public)
    if len(key.algorithms) == 1:
        members["alg"] = next(iter(key.algorithms))
    return {**members, "use": "sig", "kid": key.kid}


def thumbprint(public: Public) -> str:
    """RFC 7638, with SHA-256."""
    members = json.dumps(_required_members(public), separators=(",", ":"), sort_keys=True)
    return encode(hashlib.sha256(members.encode("ascii")).digest())


def libtrust_fingerprint(public: Public) -> str:
    """The key id of Docker's libtrust, as token servers for Distribution 2 write it: `ABCD:EFGH:...`.

    The first 240 bits of the SHA-256 of the SubjectPublicKeyInfo, in base32 by groups of four.
    """
    info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(info).digest()[:30]).decode("ascii")
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def _required_members(public: Public) -> dict[str, str]:
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": encode(public.public_bytes_raw())}
    size = (public.curve.key_size + 7) // 8
    point = public.public_numbers()
    return {
        "kty": "EC",
        "crv": _CURVES[public.curve.name][0],
        "x": encode(point.x.to_bytes(size, "big")),
        "y": encode(point.y.to_bytes(size, "big")),
    }


def _integer(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
