"""Jobs that log in with the identity token of their own CI system (OpenID Connect Core 1.0, 3.1.3.7).

Nothing is stored for them. Which issuers are trusted, for which audience, and what their tokens have to
say is configured; keys come from the issuer's discovery document, which must name the issuer as it is
configured. The token is the password of the user `oidc`.

Who the job is, its name and groups, begins with the name that the issuer has here and a colon: no job can
take the name of a user, or of another issuer's job, whatever its token says.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from auth import fetching, jose, patterns
from auth.jwk import ASYMMETRIC, KeysUnavailable
from auth.keysets import RemoteKeys
from auth.model import Undecided
from auth.patterns import Pattern
from auth.policy import CLAIM_PREFIX, ROBOT_PREFIX, claim
from auth.tokens import Claims, TokenInvalid, Verifier
from auth.watched import Clock

USER: Final = "oidc"
"""The name to log in with."""

DISCOVERY: Final = "/.well-known/openid-configuration"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_PLACE = re.compile(r"\{([A-Za-z0-9_./-]{1,100})\}", re.ASCII)
_RESERVED: Final = frozenset({CLAIM_PREFIX.rstrip(":"), ROBOT_PREFIX.rstrip(":"), "limit"})
_LONGEST_VALUE: Final = 512
_MOST_GROUPS: Final = 200
_LONGEST_CLAIM_TOTAL: Final = 4096
_THREADS: Final = 2  # that may wait for one issuer at a time


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """Raises ValueError with a sentence if it could not be used, or would let anybody in."""

    name: str
    """What it is called here: in the policy, and before the names of its jobs."""
    issuer: str
    """The URL as the tokens have it in `iss`, character for character."""
    audiences: tuple[str, ...]
    """Of which a token must have one in `aud`: a name for this registry, not the issuer's default."""
    require: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Claims that a token must have, each matching one of these patterns (auth/patterns.py)."""
    username: str = "{sub}"
    """What a job is called; names of claims in braces. `a.b` and `a/b` look into claims that are maps."""
    groups: str = ""
    """The claim, a list of texts, that names groups; "" for none."""
    claims: tuple[str, ...] = ()
    """Claims that the policy may ask for. Those of `require` and `username` are among them anyhow."""
    algorithms: tuple[str, ...] = ASYMMETRIC
    cafile: str | None = None
    """Authorities that sign the issuer's certificate, instead of the system's."""
    keys_url: str = ""
    """Where its JWKS is, if it has no discovery document."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            raise ValueError(
                f"{self.name!r} cannot be the name of an issuer; use up to 32 lower-case letters, "
                f"digits and '-', and none of {', '.join(sorted(_RESERVED))}."
            )
        fetching.check_url(self.issuer)
        if self.keys_url:
            fetching.check_url(self.keys_url)
        if not self.audiences or not all(self.audiences):
            raise ValueError(
                f"The issuer {self.name} has no audience; without one, tokens that were made for "
                "somebody else would be accepted."
            )
        if not _PLACE.search(self.username):
            raise ValueError(f"The username of the issuer {self.name} names no claim in braces.")
        for name, texts in self.require.items():
            if not texts:
                raise ValueError(f"The claim {name} of the issuer {self.name} may have no value.")
            for text in texts:
                try:
                    patterns.text(text)
                except ValueError as error:
                    raise ValueError(
                        f"The issuer {self.name}: {text!r} of the claim {name} {error}."
                    ) from None

    @property
    def shown(self) -> tuple[str, ...]:
        """The claims that become part of the identity."""
        named = _PLACE.findall(self.username)
        return tuple(dict.fromkeys((*self.claims, *self.require, *named)))


@dataclass(frozen=True, slots=True)
class Job:
    """Whom an identity token proves."""

    name: str
    groups: frozenset[str]
    issuer: str
    expires: int


class OidcIssuers:
    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        *,
        clock: Clock = time.time,
        ticks: Clock = time.monotonic,
    ) -> None:
        """Asks nobody anything yet. `ticks` paces fetching of keys. Raises ValueError with a sentence."""
        self._by_issuer: dict[str, _Trusted] = {}
        for issuer in issuers:
            if issuer.issuer in self._by_issuer or any(
                issuer.name == other.settings.name for other in self._by_issuer.values()
            ):
                raise ValueError(f"The issuer {issuer.name} is configured twice.")
            self._by_issuer[issuer.issuer] = _Trusted(issuer, _remote(issuer, ticks), clock)

    @property
    def problem(self) -> str | None:
        """Why the keys of some issuer may be old, or None."""
        found = (trusted.keys.problem for trusted in self._by_issuer.values())
        return " ".join(filter(None, found)) or None

    def trusts(self, name: str) -> bool:
        """Whether an issuer of that name is configured."""
        return any(trusted.settings.name == name for trusted in self._by_issuer.values())

    async def verify(self, token: str) -> Job:
        """Raises TokenInvalid with a reason, or Undecided if the issuer's keys cannot be had."""
        try:
            unverified = jose.read(token).payload.get("iss")
        except jose.Malformed as error:
            raise TokenInvalid(f"The identity token {error}.") from error
        trusted = self._by_issuer.get(unverified) if isinstance(unverified, str) else None
        if trusted is None:
            raise TokenInvalid("The identity token is of an issuer that is not trusted here.")
        try:
            claims = trusted.verifier.verify_at_hand(token)
            if claims is None:
                async with trusted.threads:
                    claims = await asyncio.to_thread(trusted.verifier.verify, token)
        except KeysUnavailable as error:
            raise Undecided(error.reason) from error
        return _job(trusted.settings, claims)


class _Trusted:
    def __init__(self, settings: TrustedIssuer, keys: RemoteKeys, clock: Clock) -> None:
        self.settings = settings
        self.keys = keys
        self.threads = asyncio.Semaphore(_THREADS)
        self.verifier = Verifier(
            keys, settings.issuer, settings.audiences, settings.algorithms, clock=clock
        )


def discover(
    issuer: str, fetch: Callable[[str], bytes] = fetching.fetch, where: str | None = None
) -> bytes:
    """The key set (JWKS) of an issuer, by its discovery document (OpenID Connect Discovery 1.0, section 4).

    Raises FetchFailed, also if the document is about another issuer.
    """
    try:
        document = jose.strict_object(fetch(where or issuer.rstrip("/") + DISCOVERY))
    except jose.Malformed as error:
        raise fetching.FetchFailed(f"{error}, so it is no discovery document") from error
    if document.get("issuer") != issuer:
        raise fetching.FetchFailed("says that it is of another issuer than is configured")
    url = document.get("jwks_uri")
    try:
        fetching.check_url(url if isinstance(url, str) else "")
    except ValueError as error:
        raise fetching.FetchFailed(f"names no usable jwks_uri: {error}") from error
    assert isinstance(url, str)  # noqa: S101  # check_url refuses ""
    return fetch(url)


def _remote(issuer: TrustedIssuer, ticks: Clock) -> RemoteKeys:
    def fetch(url: str) -> bytes:
        return fetching.fetch(url, cafile=issuer.cafile)

    if issuer.keys_url:
        return RemoteKeys(issuer.keys_url, fetch=fetch, clock=ticks)
    return RemoteKeys(
        issuer.issuer.rstrip("/") + DISCOVERY,
        fetch=lambda url: discover(issuer.issuer, fetch, url),
        clock=ticks,
    )


def _job(settings: TrustedIssuer, claims: Claims) -> Job:
    values = {**claims.extra, "sub": claims.subject, "iss": claims.issuer}
    for name, texts in settings.require.items():
        found = _texts(_found(values, name))
        if not any(Pattern(text).matches(value) for text in texts for value in found):
            raise TokenInvalid(
                f"The identity token's {name} is not one that the registry's configuration accepts."
            )
    groups: set[str] = set()
    for name in settings.shown:
        groups.update(claim(settings.name, name, value) for value in _texts(_found(values, name)))
    if settings.groups:
        listed = claims.groups if settings.groups == "groups" else _found(values, settings.groups)
        groups.update(f"{settings.name}:{value}" for value in _texts(listed))
    if len(groups) > _MOST_GROUPS or sum(map(len, groups)) > _LONGEST_CLAIM_TOTAL:
        raise TokenInvalid("The identity token names more groups and claims than can be kept.")
    return Job(
        f"{settings.name}:{_username(settings, values)}",
        frozenset(groups),
        settings.name,
        claims.expires,
    )


def _username(settings: TrustedIssuer, values: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        texts = _texts(_found(values, match[1]))
        if len(texts) != 1 or not texts[0]:
            raise TokenInvalid(f"The identity token lacks {match[1]}, which would name the job.")
        return texts[0]

    name = _PLACE.sub(value, settings.username)
    if len(name) > _LONGEST_VALUE or not name.isprintable():
        raise TokenInvalid("The identity token's claims make no printable name of usable length.")
    return name


def _found(values: Mapping[str, Any], name: str) -> object:
    """A claim, or one inside another: `kubernetes.io/namespace` is in the map `kubernetes.io`."""
    if name in values:
        return values[name]
    for end in (i for i, character in enumerate(name) if character in "./"):
        inner = values.get(name[:end])
        if isinstance(inner, Mapping):
            return _found(inner, name[end + 1 :])
    return None


def _texts(value: object) -> tuple[str, ...]:
    """What of a claim can be compared as text: true and numbers as JSON writes them."""
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, str | int):
        return (str(value),)
    if isinstance(value, list | tuple | frozenset):
        return tuple(each for each in value if isinstance(each, str))
    return ()
