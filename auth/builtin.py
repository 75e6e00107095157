"""The token server's logic: who asks, what they may have of it, and the short-lived token that says so.

It is Distribution's token protocol (`docs/spec/auth/token.md` and `oauth.md`): a GET with Basic
credentials or none, and a POST of OAuth2 with a password or a refresh token. Less than was asked for is
no error, not even nothing at all: the token says what it grants. An HTTP layer renders the results.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from auth import refresh, tokens
from auth.audit import Audit, Event, What, describe, unheard
from auth.jwk import KeysUnavailable
from auth.login import ANONYMOUS, Login, LoginFailed, Logins, basic_credentials
from auth.model import Access, Asking, Refused, Undecided
from auth.refresh import RefreshTokens
from auth.rights import Rights
from auth.robots import CredentialInvalid
from auth.scopes import ScopeInvalid, parse, parse_limits
from auth.signing import SigningKey
from auth.tokens import Claims
from auth.watched import Clock

LIFETIME: Final = 300
SHORTEST: Final = 60
"""Seconds; clients take it that a token is valid for as long at least."""

_PRIVATE: Final = "holdfast"  # the claim with what the protocol has no word for


class RequestInvalid(Exception):
    """The question makes no sense (400). `code` is one of RFC 6749 section 5.2."""

    def __init__(self, reason: str, code: str = "invalid_request") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The query of a GET."""

    service: str = ""
    scopes: Sequence[str] = ()
    offline: bool = False
    """`offline_token`: whether a refresh token is wanted too."""


@dataclass(frozen=True, slots=True)
class OAuthRequest:
    """The form of a POST."""

    grant_type: str
    service: str = ""
    scope: str = ""
    username: str = ""
    password: str = ""
    refresh_token: str = ""
    access_type: str = ""


@dataclass(frozen=True, slots=True)
class Issued:
    token: str
    expires_in: int
    """Seconds."""
    issued_at: str
    """RFC 3339, UTC."""
    access: tuple[Access, ...]
    identity: Login
    refresh_token: str | None = None

    def rendered(self, *, oauth: bool) -> dict[str, str | int]:
        """The JSON of the answer. `oauth` is of a POST, which tells the scope that was granted."""
        answer: dict[str, str | int] = {
            "access_token": self.token,
            "expires_in": self.expires_in,
            "issued_at": self.issued_at,
        }
        if oauth:
            answer["scope"] = describe(self.access)
        else:
            answer["token"] = self.token
        if self.refresh_token is not None:
            answer["refresh_token"] = self.refresh_token
        return answer


class Signer(Protocol):
    """auth.keys.KeyRing is one."""

    def signing(self) -> SigningKey:
        """May block. Raises KeysUnavailable."""


class TokenServer:
    """Belongs to one event loop."""

    def __init__(
        self,
        logins: Logins,
        rights: Rights,
        keys: Signer,
        *,
        issuer: str,
        service: str,
        refresh_tokens: RefreshTokens | None = None,
        lifetime: int = LIFETIME,
        chain: bool = False,
        certificates: bool = False,
        audit: Audit = unheard,
        clock: Clock = time.time,
    ) -> None:
        """`chain` puts the key's certificate into tokens, for registries that know keys by it.

        `certificates` makes the name in a client's certificate its identity where it shows nothing
        else. Raises ValueError with a sentence.
        """
        if lifetime < SHORTEST:
            raise ValueError(f"Tokens are to be valid for {SHORTEST} seconds at least.")
        if not issuer or not service:
            raise ValueError("The token server needs the names of the issuer and the service.")
        self.service = service
        self._logins = logins
        self._rights = rights
        self._keys = keys
        self._issuer = issuer
        self._refresh = refresh_tokens
        self._lifetime = lifetime
        self._chain = chain
        self._certificates = certificates
        self._audit = audit
        self._clock = clock

    async def get(self, request: TokenRequest, asking: Asking) -> Issued:
        """Raises Refused with a Basic challenge, Throttled, Undecided or RequestInvalid."""
        wanted = self._wanted(request.service, request.scopes)
        try:
            shown = basic_credentials(asking.authorization)
            if shown is not None:
                login = await self._logins.login(*shown, asking.client)
            elif asking.authorization:
                raise LoginFailed(
                    "Tokens are given for a name and a password (Basic), or for none."
                )
            elif self._certificates and asking.certificate:
                login = await self._logins.certificate(asking.certificate)
            else:
                login = ANONYMOUS
        except LoginFailed as failed:
            raise self._refused(failed) from failed
        return await self._issued(login, wanted, asking, offline=request.offline)

    async def post(self, request: OAuthRequest, asking: Asking) -> Issued:
        """Raises Refused with a Basic challenge, Throttled, Undecided or RequestInvalid."""
        wanted = self._wanted(request.service, [request.scope])
        offline = request.access_type == "offline"
        try:
            match request.grant_type:
                case "password":
                    if not request.username:
                        raise RequestInvalid("The form lacks the username.")
                    login = await self._logins.login(
                        request.username, request.password, asking.client
                    )
                    return await self._issued(login, wanted, asking, offline=offline)
                case "refresh_token":
                    login = await self._refreshed(request.refresh_token, asking)
                    issued = await self._issued(login, wanted, asking, offline=False)
                    return replace(issued, refresh_token=request.refresh_token)
        except LoginFailed as failed:
            raise self._refused(failed) from failed
        raise RequestInvalid(
            "The grant_type is to be password or refresh_token.", "unsupported_grant_type"
        )

    def _wanted(self, service: str, scopes: Sequence[str]) -> list[Access]:
        if service and service != self.service:
            raise RequestInvalid(
                f"This token server gives tokens for the service {self.service!r} only; the "
                "registry's challenge names the service to ask for."
            )
        try:
            return parse(scopes)
        except ScopeInvalid as error:
            raise RequestInvalid(str(error), "invalid_scope") from error

    async def _refreshed(self, text: str, asking: Asking) -> Login:
        if self._refresh is None:
            raise LoginFailed("Refresh tokens are not given out here; log in with a password.")
        try:
            shown = self._refresh.verify(text, self.service)
            login = Login(shown.name, shown.method, shown.groups, stamp=shown.stamp)
            return await self._logins.standing(replace(login, credential=shown.id))
        except (CredentialInvalid, LoginFailed) as error:
            event = Event(What.LOGIN_FAILED, "", "refresh", asking.client, detail=error.reason)
            self._audit(event)
            raise LoginFailed(error.reason) from error

    async def _issued(
        self, login: Login, wanted: Sequence[Access], asking: Asking, *, offline: bool
    ) -> Issued:
        await self._rights.refreshed()
        asked = [self._rights.granted(login, access) for access in wanted]
        access = tuple(each for each in asked if each.actions)
        now = self._clock()
        lifetime = int(max(SHORTEST, min(self._lifetime, login.expires - now)))
        try:
            token = await asyncio.to_thread(self._sign, login, access, lifetime)
        except KeysUnavailable as error:
            raise Undecided("No token can be signed at the moment. Try again.") from error
        self._report(login, wanted, access, asking)
        moment = datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kept = self._refresh_token(login) if offline else None
        return Issued(token, lifetime, moment, access, login, kept)

    def _sign(self, login: Login, access: tuple[Access, ...], lifetime: int) -> str:
        return tokens.issue(
            self._keys.signing(),
            issuer=self._issuer,
            audience=self.service,
            subject=login.name,
            lifetime=lifetime,
            access=access,
            chain=self._chain,
            extra=_remembered(login),
            clock=self._clock,
        )

    def _refresh_token(self, login: Login) -> str | None:
        """None for whom a password in the client's file is as good: it ends by itself, or says less."""
        if self._refresh is None or login.method not in {"htpasswd", "oidc"}:
            return None
        job = login.method == "oidc"
        return self._refresh.create(
            login.name,
            login.method,
            service=self.service,
            lifetime=refresh.JOB_LIFETIME if job else refresh.LIFETIME,
            stamp=login.stamp,
            groups=login.groups if job else frozenset(),
        )

    def _report(
        self, login: Login, wanted: Sequence[Access], access: tuple[Access, ...], asking: Asking
    ) -> None:
        rules = dict.fromkeys(self._rights.decide(login, each).rule for each in access)
        self._audit(
            Event(
                What.TOKEN_ISSUED,
                login.name,
                login.method,
                asking.client,
                access,
                "; ".join(filter(None, rules)),
            )
        )
        for each in wanted:
            got = {a for one in access if one.name == each.name for a in one.actions}
            missing = Access(each.type, each.name, tuple(a for a in each.actions if a not in got))
            if missing.actions:
                rule = self._rights.decide(login, missing).rule
                self._audit(
                    Event(What.DENIED, login.name, login.method, asking.client, (missing,), rule)
                )

    def _refused(self, failed: LoginFailed) -> Refused:
        return Refused(failed.reason, challenge=f'Basic realm="{self.service}"')


def _remembered(login: Login) -> dict[str, Any]:
    """What the registry has to know again when the token comes back."""
    private: dict[str, Any] = {"method": login.method}
    if login.limits:
        private["limits"] = [describe([limit]) for limit in login.limits]
    if login.credential:
        private["credential"] = login.credential
    if login.stamp:
        private["stamp"] = login.stamp
    claims: dict[str, Any] = {_PRIVATE: private}
    if login.method == "oidc":
        claims["groups"] = sorted(login.groups)
    return claims


def recalled(claims: Claims) -> Login:
    """The identity of a verified token that a TokenServer issued. Raises ValueError if none did."""
    private = claims.extra.get(_PRIVATE)
    if not isinstance(private, dict):
        raise ValueError("no token of this server")
    method, limits = private.get("method"), private.get("limits", [])
    credential, stamp = private.get("credential", ""), private.get("stamp", "")
    if not all(isinstance(each, str) for each in (method, credential, stamp, *limits)):
        raise ValueError("no token of this server")
    return Login(
        claims.subject,
        str(method),
        claims.groups,
        claims.access,
        limits=parse_limits(limits),
        credential=credential,
        stamp=stamp,
        by_token=True,
    )
