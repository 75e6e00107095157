"""Refresh tokens: what a client keeps instead of a password, sealed and not stored.

One ends when it expires, when it is revoked, and when the account of whom it is of is gone, is disabled or
has another password. One of a CI job has no account to look at; it lasts for as long as a job does.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from auth.robots import CredentialInvalid
from auth.sealed import NotSealed, Seal
from auth.watched import Clock

LIFETIME: Final = 30 * 86400
JOB_LIFETIME: Final = 3600
"""Seconds: a CI system's own identity token often ends before its job does."""


@dataclass(frozen=True, slots=True)
class Refresh:
    id: str
    name: str
    method: str
    service: str
    stamp: str
    """The account's at the time (accounts.Account.stamp)."""
    groups: frozenset[str]
    """Of a job; those of an account are looked up."""
    expires: int


class RefreshTokens:
    def __init__(self, secrets: Sequence[bytes], *, clock: Clock = time.time) -> None:
        self._seal = Seal(secrets, "refresh", "hfr_")
        self._clock = clock

    def create(
        self,
        name: str,
        method: str,
        *,
        service: str,
        lifetime: int,
        stamp: str = "",
        groups: frozenset[str] = frozenset(),
    ) -> str:
        """Raises ValueError if what is to be kept in it is too much."""
        return self._seal.seal(
            {
                "id": secrets.token_hex(8),
                "name": name,
                "method": method,
                "service": service,
                "stamp": stamp,
                "groups": sorted(groups),
                "exp": int(self._clock()) + lifetime,
            }
        )

    def verify(self, text: str, service: str) -> Refresh:
        """Raises CredentialInvalid. Whether the account is still as it was is for others."""
        try:
            content = self._seal.open(text)
            fields = [content[key] for key in ("id", "name", "method", "service", "stamp")]
            groups, expires = content["groups"], content["exp"]
            if not all(isinstance(each, str) for each in (*fields, *groups)):
                raise TypeError
            if type(expires) is not int or fields[3] != service:
                raise TypeError
        except (NotSealed, KeyError, TypeError):
            raise CredentialInvalid(
                "The refresh token is not one that this registry gave out; log in again."
            ) from None
        if expires <= self._clock():
            raise CredentialInvalid("The refresh token has expired; log in again.")
        token_id, name, method, _, stamp = fields
        return Refresh(token_id, name, method, service, stamp, frozenset(groups), expires)
