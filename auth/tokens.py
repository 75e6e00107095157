"""Signed tokens (RFC 7519): issuing ours, and verifying anybody's without trusting their word.

The algorithm comes from the type of the key and a configured list, the key from the configured ones
alone: `jku` and `x5u` are never fetched, a `jwk` in the header is only a way to name a trusted key.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from auth import jose
from auth.jwk import ASYMMETRIC, SYMMETRIC, KeySource, VerificationKey
from auth.model import Access
from auth.signing import SigningKey

LEEWAY: Final = 60
LONGEST: Final = 24 * 3600

_LATEST: Final = 253_402_300_799  # the last second of the year 9999
_LONGEST_CHAIN: Final = 8
_READ: Final = frozenset(("sub", "exp", "iat", "nbf", "jti", "groups", "access", "iss", "aud"))
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


class TokenInvalid(Exception):
    """The token is not to be believed; `reason` is a sentence that the client may read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. Times are seconds since the epoch."""

    subject: str
    access: tuple[Access, ...]
    expires: int
    issued: int
    """`iat`, or `nbf` where the token has no `iat`."""
    id: str = ""
    issuer: str = ""
    groups: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, hash=False)
    """All other claims as they came."""


def issue(
    key: SigningKey,
    *,
    issuer: str,
    audience: str | Sequence[str],
    subject: str,
    lifetime: int,
    access: Sequence[Access] = (),
    id: str = "",  # noqa: A002 - the claim's name
    type: str = "JWT",  # noqa: A002 - the header's name
    chain: bool = False,
    extra: Mapping[str, Any] = _EMPTY,
    clock: Callable[[], float] = time.time,
) -> str:
    """A token that is valid from now for `lifetime` seconds.

    A random `id` is made unless one is given. `type` tells kinds of tokens apart that the same keys sign;
    `chain` adds the key's certificate as `x5c`, by which Distribution 2 finds the key.
    """
    now = int(clock())
    header: dict[str, Any] = {"typ": type, "alg": key.algorithm, "kid": key.kid}
    if chain and key.certificate is not None:
        header["x5c"] = [base64.b64encode(key.certificate).decode("ascii")]
    claims = {
        **extra,
        "iss": issuer,
        "sub": subject,
        "aud": audience if isinstance(audience, str) else list(audience),
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": id or secrets.token_urlsafe(16),
        "access": [
            {"type": one.type, "name": one.name, "actions": list(one.actions)} for one in access
        ],
    }
    signed = jose.write(header, claims)
    return f"{signed}.{jose.encode(key.sign(signed.encode('ascii')))}"


class Verifier:
    """Verifies the tokens of one issuer for one service. Used by any number of threads."""

    def __init__(
        self,
        keys: KeySource,
        issuer: str,
        audiences: Collection[str],
        algorithms: Collection[str] = ASYMMETRIC,
        *,
        types: Collection[str] = ("JWT", "at+jwt"),
        leeway: int = LEEWAY,
        longest: int = LONGEST,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """A token without `typ` passes if `types` has JWT. `longest` bounds its whole life, in seconds.

        Raises ValueError with a sentence if that accepts nothing, or accepts unsigned tokens.
        """
        if not issuer or not audiences or not all(audiences):
            raise ValueError("Tokens need an issuer and a service to be held against; name both.")
        unknown = sorted(set(algorithms) - set(ASYMMETRIC) - set(SYMMETRIC))
        if unknown or not algorithms:
            raise ValueError(
                f"signingalgorithms: {', '.join(unknown) or 'an empty list'} is not possible; "
                f"choose from {', '.join((*ASYMMETRIC, *SYMMETRIC))}."
            )
        self._keys = keys
        self._issuer = issuer
        self._audiences = frozenset(audiences)
        self._algorithms = frozenset(algorithms)
        self._types = frozenset(name.lower() for name in types)
        self._leeway = leeway
        self._longest = longest
        self._clock = clock

    def verify(self, token: str) -> Claims:
        """May wait for keys (KeySource.find). Raises TokenInvalid, and KeysUnavailable from the keys."""
        compact, algorithm = self._opened(token)
        claims = self._claims(compact.payload)  # cheap, and a stale token must not cause a fetch
        chain = self._chain(compact.header) if self._keys.certifies else ()
        key = self._keys.leaf(chain) if chain else self._keys.find(_kid(compact.header))
        return self._checked(compact, algorithm, key, claims)

    def verify_at_hand(self, token: str) -> Claims | None:
        """verify() without waiting; None if only verify() can tell. Raises TokenInvalid."""
        compact, algorithm = self._opened(token)
        claims = self._claims(compact.payload)
        if self._keys.certifies and self._chain(compact.header):
            return None
        key = self._keys.at_hand(_kid(compact.header))
        return None if key is None else self._checked(compact, algorithm, key, claims)

    def _opened(self, token: str) -> tuple[jose.Compact, str]:
        try:
            compact = jose.read(token)
        except jose.Malformed as error:
            raise TokenInvalid(f"The token {error}.") from error
        header = compact.header
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenInvalid("The token is signed with an algorithm that is not accepted here.")
        if "crit" in header or header.get("b64", True) is not True:
            raise TokenInvalid("The token needs an extension (crit) that is not understood here.")
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in self._types:
            raise TokenInvalid("The token is of another kind than is accepted here.")
        return compact, algorithm

    def _checked(
        self, compact: jose.Compact, algorithm: str, key: VerificationKey | None, claims: Claims
    ) -> Claims:
        if key is None:
            raise TokenInvalid("The token is signed with a key that is not trusted here.")
        if not key.verifies(algorithm, compact.signed, compact.signature):
            raise TokenInvalid("The token's signature is wrong.")
        return claims

    @staticmethod
    def _chain(header: Mapping[str, Any]) -> tuple[bytes, ...]:
        """The certificates that the token brings, its own or its `jwk`'s; they are to be verified."""
        holder = header if "x5c" in header else header.get("jwk")
        if not isinstance(holder, Mapping) or "x5c" not in holder:
            return ()
        texts = holder["x5c"]
        if not isinstance(texts, list) or not 0 < len(texts) <= _LONGEST_CHAIN:
            raise TokenInvalid("The token's x5c is not a list of a few certificates.")
        try:
            return tuple(base64.b64decode(text, validate=True) for text in texts)
        except (TypeError, ValueError, binascii.Error) as error:
            raise TokenInvalid("The token's x5c is not base64.") from error

    def _claims(self, claims: Mapping[str, Any]) -> Claims:
        now = self._clock()
        expires, not_before, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
        begins = not_before if issued is None else issued
        if expires is None or begins is None:
            raise TokenInvalid("The token does not say when it begins and ends (exp, iat or nbf).")
        if now >= expires + self._leeway:
            raise TokenInvalid("The token has expired; log in again or ask for a new one.")
        if any(
            moment is not None and moment > now + self._leeway for moment in (not_before, issued)
        ):
            raise TokenInvalid("The token is not valid yet; check the clocks.")
        if expires - begins > self._longest:
            raise TokenInvalid(f"The token is valid for longer than {self._longest} seconds.")
        if claims.get("iss") != self._issuer:
            raise TokenInvalid("The token was issued by somebody else (iss).")
        if self._audiences.isdisjoint(_strings(claims, "aud")):
            raise TokenInvalid("The token is for another service (aud).")
        return Claims(
            subject=_string(claims, "sub"),
            access=_access(claims.get("access")),
            expires=expires,
            issued=begins,
            id=_string(claims, "jti"),
            issuer=self._issuer,
            groups=_groups(claims.get("groups")),
            extra=MappingProxyType({n: v for n, v in claims.items() if n not in _READ}),
        )


def _kid(header: Mapping[str, Any]) -> str:
    named = header.get("jwk")
    kid = named.get("kid") if isinstance(named, Mapping) and "kid" in named else header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise TokenInvalid("The token does not name the key that signed it (kid).")
    return kid


def _time(claims: Mapping[str, Any], name: str) -> int | None:
    if name not in claims:
        return None
    value = claims[name]
    if type(value) is not int or not 0 <= value <= _LATEST:
        raise TokenInvalid(f"The token's {name} is not a whole number of seconds.")
    return value


def _string(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise TokenInvalid(f"The token's {name} is not a string.")
    return value


def _strings(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = claims.get(name)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise TokenInvalid(f"The token's {name} is not a string or a list of strings.")
    return tuple(values)


def _groups(value: object) -> frozenset[str]:
    """A claim that no standard defines: what is not a list of strings names no groups."""
    if not isinstance(value, list):
        return frozenset()
    return frozenset(one for one in value if isinstance(one, str))


def _access(value: object) -> tuple[Access, ...]:
    """Go writes an empty list as null."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise TokenInvalid("The token's access is not a list.")
    return tuple(_one_access(entry) for entry in value)


def _one_access(entry: object) -> Access:
    if isinstance(entry, Mapping):
        kind, name, actions = entry.get("type"), entry.get("name"), entry.get("actions")
        listed = [] if actions is None else actions
        if (
            isinstance(kind, str)
            and isinstance(name, str)
            and isinstance(listed, list)
            and all(isinstance(action, str) for action in listed)
        ):
            return Access(kind, name, tuple(listed))
    raise TokenInvalid("The token's access has an entry without type, name and actions.")
