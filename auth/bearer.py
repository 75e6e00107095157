"""The `token` mode: bearer tokens of an external token server, as Distribution takes them.

A verified token is remembered until it expires, for RECHECK seconds at most, so that a key that is
not trusted any more ends its tokens too.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from auth.audit import Audit, Event, What, unheard
from auth.jwk import KeysUnavailable
from auth.model import Access, Asking, Identity, Refused, Undecided
from auth.tokens import Claims, TokenInvalid, Verifier

RECHECK: Final = 30.0
REMEMBERED: Final = 4096
"""Tokens."""

_THREADS: Final = 2  # of the loop's default pool, so that a slow issuer cannot take all
_BASE = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,280}", re.ASCII)
_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a client is told of where its tokens come from. Raises ValueError with a sentence."""

    service: str
    realm: str = ""
    """The token server's URL."""
    autoredirect_path: str = ""
    """If set, the realm is this path of the registry as the client addressed it."""

    def __post_init__(self) -> None:
        for name, text in (("service", self.service), ("realm", self.realm)):
            if _UNQUOTABLE.search(text):
                raise ValueError(
                    f"auth.token.{name} has a quote, a backslash or a character that is not "
                    "printable ASCII; take it out."
                )
        if not self.realm and not self.autoredirect_path:
            raise ValueError("auth.token.realm is missing; name the URL of the token server.")
        if self.autoredirect_path and not re.fullmatch(
            r"/[A-Za-z0-9._~/-]*", self.autoredirect_path
        ):
            raise ValueError(
                "auth.token.autoredirectpath must be a plain path such as /auth/token."
            )

    def header(self, asking: Asking, wanted: Sequence[Access], error: str | None = None) -> str:
        """The value of WWW-Authenticate, parameter for parameter as Distribution writes it."""
        parts = [f'realm="{self._realm(asking)}"', f'service="{self.service}"']
        # Names and actions have been through the registry's grammar; nothing else may end the quotes.
        scope = " ".join(
            f"{one.type}:{one.name}:{','.join(one.actions)}" for one in wanted if one.actions
        )
        if scope:
            parts.append(f'scope="{_UNQUOTABLE.sub("", scope)}"')
        if error is not None:
            parts.append(f'error="{error}"')
        return "Bearer " + ",".join(parts)

    def _realm(self, asking: Asking) -> str:
        if self.autoredirect_path and (_BASE.fullmatch(asking.base_url) or not self.realm):
            base = asking.base_url if _BASE.fullmatch(asking.base_url) else ""
            return base + self.autoredirect_path
        return self.realm


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header, or None: another scheme counts as no token."""
    if authorization is None or authorization[:7].lower() != "bearer ":
        return None
    return authorization[7:].strip(" ") or None


def grants(granted: Sequence[Access], access: Access) -> bool:
    """Whether all actions are granted. `*` grants each action on its resource; names have no wildcard."""
    missing = set(access.actions)
    for one in granted:
        if one.name == access.name and one.type == access.type:
            if "*" in one.actions:
                return True
            missing.difference_update(one.actions)
            if not missing:
                return True
    return not missing


class TokenAuthorizer:
    """Recognises bearers by their tokens alone: what a token grants is what its bearer may do."""

    reads_everything = False

    def __init__(
        self,
        verifier: Verifier,
        challenge: Challenge,
        *,
        remembered: int = REMEMBERED,
        audit: Audit = unheard,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._audit = audit
        self._challenge = challenge
        self._remembered = remembered
        self._clock = clock
        self._verified: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        self._threads = asyncio.Semaphore(_THREADS)

    async def authorize(self, asking: Asking, wanted: Sequence[Access]) -> Identity:
        token = bearer_token(asking.authorization)
        if token is None:
            raise Refused(
                "This registry needs a token; log in first.",
                challenge=self._challenge.header(asking, wanted),
            )
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(key)
        if known is not None and self._clock() < known[0]:
            identity = known[1]
        else:
            identity = await self._recognise(token, key, asking, wanted)
        for access in wanted:
            if not grants(identity.granted, access):
                who = (identity.name, identity.method, asking.client)
                self._audit(Event(What.DENIED, *who, (access,), identity.rule))
                raise Refused(
                    "The token does not grant what was asked for.",
                    challenge=self._challenge.header(asking, wanted, "insufficient_scope"),
                )
        return identity

    def permits(self, identity: Identity, access: Access) -> bool:
        return grants(identity.granted, access)

    async def _recognise(
        self, token: str, key: bytes, asking: Asking, wanted: Sequence[Access]
    ) -> Identity:
        self._verified.pop(key, None)
        try:
            claims = self._verifier.verify_at_hand(token)
            if claims is None:
                async with self._threads:
                    claims = await asyncio.to_thread(self._verifier.verify, token)
        except TokenInvalid as invalid:
            raise Refused(
                invalid.reason, challenge=self._challenge.header(asking, wanted, "invalid_token")
            ) from invalid
        except KeysUnavailable as unavailable:
            raise Undecided(unavailable.reason) from unavailable
        identity = _identity(claims)
        if len(self._verified) >= self._remembered:
            self._verified.popitem(last=False)
        self._verified[key] = (min(claims.expires, self._clock() + RECHECK), identity)
        return identity


def _identity(claims: Claims) -> Identity:
    return Identity(
        name=claims.subject,
        method="token",
        groups=claims.groups,
        granted=claims.access,
        rule=f"token {claims.id or 'without id'} of {claims.issuer}",
    )
