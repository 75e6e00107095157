"""The registry's own ways of deciding: `htpasswd`, with Basic credentials, and `builtin`, with tokens too.

An answer depends on who asks and on the name of what is asked for, never on whether it exists. Whoever
shows nothing, or a token, is told where to get one (401); whoever is known by a password and may not
is told so (403), since asking for the password again would not help.

`/v2/` itself is where clients learn how to log in, so it is refused to nobody in particular even where
everybody may pull.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from auth.audit import Audit, Event, What, describe, unheard
from auth.bearer import Challenge, bearer_token, grants
from auth.builtin import recalled
from auth.jwk import KeysUnavailable
from auth.login import ANONYMOUS, Login, LoginFailed, Logins, basic_credentials
from auth.model import Access, Asking, Denied, Identity, Refused, Undecided
from auth.policy import Policy
from auth.rights import Rights
from auth.tokens import TokenInvalid, Verifier
from auth.watched import Clock

RECHECK: Final = 30.0
"""Seconds for which a verified token is believed without looking at its signature again."""

REMEMBERED: Final = 8192
"""Tokens."""

_ALLOWED: Final = 64
"""Answers that are remembered of a token."""


@dataclass(slots=True)
class _Known:
    """A token that was verified, and what it was allowed since users and rules are as they are."""

    until: float
    login: Login
    users: object = None
    policy: Policy | None = None
    allowed: dict[tuple[Access, ...], Identity] = field(default_factory=dict)


class BasicAuthorizer:
    """The mode `htpasswd`. Belongs to one event loop."""

    def __init__(
        self,
        logins: Logins,
        rights: Rights,
        *,
        realm: str,
        certificates: bool = False,
        audit: Audit = unheard,
    ) -> None:
        """`certificates` makes the name in a client's certificate its identity where it shows nothing
        else. Raises ValueError if the realm cannot stand in a header.
        """
        if not realm.isprintable() or not realm.isascii() or {'"', "\\"} & set(realm):
            raise ValueError("The realm is to be printable ASCII without quotes and backslashes.")
        self._logins = logins
        self._rights = rights
        self._realm = realm
        self._certificates = certificates
        self._audit = audit

    @property
    def reads_everything(self) -> bool:
        return self._rights.world_readable

    async def authorize(self, asking: Asking, wanted: Sequence[Access]) -> Identity:
        await self._rights.refreshed()
        try:
            login = await self._recognised(asking)
        except LoginFailed as failed:
            raise Refused(
                failed.reason, challenge=self._challenge(asking, wanted, "invalid_token")
            ) from failed
        if not wanted:
            if not login.name and not login.by_token:
                raise Refused(
                    "This registry needs a log-in.", challenge=self._challenge(asking, wanted, None)
                )
            return login
        rule = ""
        for access in wanted:
            rule = self._check(login, access, asking, wanted)
        return replace(login, rule=rule)

    def permits(self, identity: Identity, access: Access) -> bool:
        return self._rights.permits(identity, access)

    async def _recognised(self, asking: Asking) -> Login:
        shown = basic_credentials(asking.authorization)
        if shown is not None:
            return await self._logins.login(*shown, asking.client)
        if asking.authorization:
            raise LoginFailed("This registry takes a name and a password (Basic).")
        if self._certificates and asking.certificate:
            return await self._logins.certificate(asking.certificate)
        return ANONYMOUS

    def _check(self, login: Login, access: Access, asking: Asking, wanted: Sequence[Access]) -> str:
        """The rule that allows it."""
        decision = self._rights.decide(login, access)
        if decision.allowed:
            return decision.rule
        self._denied(login, access, asking, decision.rule)
        if login.by_token:
            raise Refused(
                f"The token does not allow {describe([access])}.",
                challenge=self._challenge(asking, wanted, "insufficient_scope"),
            )
        if not login.name:
            raise Refused("This needs a log-in.", challenge=self._challenge(asking, wanted, None))
        actions = " and ".join(access.actions) if access.type == "repository" else "list"
        raise Denied(
            f"{login.name} may not {actions} {access.name}. Whoever runs this registry can change that."
        )

    def _denied(self, login: Login, access: Access, asking: Asking, rule: str) -> None:
        """Not of those who show nothing: most clients ask so first, to learn where to log in."""
        if login.name or login.by_token:
            who = (login.name, login.method, asking.client)
            self._audit(Event(What.DENIED, *who, (access,), rule))

    def _challenge(self, asking: Asking, wanted: Sequence[Access], error: str | None) -> str:
        return f'Basic realm="{self._realm}"'


class BuiltinAuthorizer(BasicAuthorizer):
    """The mode `builtin`: tokens of our own server, and what htpasswd takes."""

    def __init__(
        self,
        logins: Logins,
        rights: Rights,
        verifier: Verifier,
        challenge: Challenge,
        *,
        certificates: bool = False,
        audit: Audit = unheard,
        clock: Clock = time.time,
    ) -> None:
        """`verifier` is one of the server's own keys, issuer and service."""
        super().__init__(
            logins, rights, realm=challenge.service, certificates=certificates, audit=audit
        )
        self._verifier = verifier
        self._bearer_challenge = challenge
        self._clock = clock
        self._verified: OrderedDict[bytes, _Known] = OrderedDict()

    async def authorize(self, asking: Asking, wanted: Sequence[Access]) -> Identity:
        """As every mode does; what a token was allowed a moment ago, and still is, costs little."""
        token = bearer_token(asking.authorization)
        known = None if token is None else self._verified.get(_key(token))
        if known is None or self._clock() >= known.until:
            return await super().authorize(asking, wanted)
        await self._rights.refreshed()
        users, policy = await self._logins.version(), self._rights.policy
        if known.users != users or known.policy is not policy or len(known.allowed) >= _ALLOWED:
            known.users, known.policy, known.allowed = users, policy, {}
        identity = known.allowed.get(question := tuple(wanted))
        if identity is None or await self._logins.revoked(known.login):
            allowed = known.allowed  # what is found by older users or rules goes with those
            identity = allowed[question] = await super().authorize(asking, wanted)
        return identity

    async def _recognised(self, asking: Asking) -> Login:
        token = bearer_token(asking.authorization)
        if token is None:
            return await super()._recognised(asking)
        known = self._verified.get(key := _key(token))
        if known is None or self._clock() >= known.until:
            login, expires = await self._verify(token)
            known = _Known(min(self._clock() + RECHECK, expires), login)
            self._verified.pop(key, None)
            self._verified[key] = known
            while len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        return await self._logins.standing(known.login)

    def _check(self, login: Login, access: Access, asking: Asking, wanted: Sequence[Access]) -> str:
        if login.by_token and not grants(login.granted, access):
            self._denied(login, access, asking, "the token does not grant it")
            raise Refused(
                f"The token does not allow {describe([access])}.",
                challenge=self._challenge(asking, wanted, "insufficient_scope"),
            )
        return super()._check(login, access, asking, wanted)

    async def _verify(self, token: str) -> tuple[Login, int]:
        try:
            claims = self._verifier.verify_at_hand(token)
            if claims is None:
                claims = await asyncio.to_thread(self._verifier.verify, token)
            return recalled(claims), claims.expires
        except TokenInvalid as invalid:
            raise LoginFailed(invalid.reason) from invalid
        except ValueError as error:
            raise LoginFailed("The token is not one that this registry gave out.") from error
        except KeysUnavailable as unavailable:
            raise Undecided(unavailable.reason) from unavailable

    def _challenge(self, asking: Asking, wanted: Sequence[Access], error: str | None) -> str:
        shown = bearer_token(asking.authorization) is not None
        return self._bearer_challenge.header(asking, wanted, error if shown else None)


def _key(token: str) -> bytes:
    """What is kept of a token in memory is not the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
