"""Robots and personal access tokens: passwords that say themselves what they are, for how long and how far.

Nothing is stored when one is made. It carries an id, whose it is, the scopes that it is limited to and
when it expires, sealed (auth/sealed.py), and ends early by its id on the list of revocations. It grants
nothing itself: who it is may do what the policy allows, and the scopes narrow that.

A robot is called by its own name. A personal access token stands for a user, with the groups they have
at the time, and ends with their account.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from auth.accounts import NAME_RULE, is_name
from auth.model import Access
from auth.scopes import ScopeInvalid, parse_limits
from auth.sealed import NotSealed, Seal
from auth.watched import Clock

PREFIX: Final = "hf_"
LONGEST: Final = 10 * 366 * 86400
"""Seconds that one may be valid."""

Kind = Literal["robot", "personal"]

_ROBOT = re.compile(r"[a-z0-9](?:[a-z0-9._/-]{0,126}[a-z0-9])?", re.ASCII)


class CredentialInvalid(Exception):
    """`reason` is a sentence that the client may read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Credential:
    id: str
    kind: Kind
    name: str
    """Of the robot, or of the user whose it is."""
    limits: tuple[Access, ...]
    """Names are patterns; empty if it is not limited."""
    issued: int
    expires: int


class RobotTokens:
    """Makes and verifies them. Used by any number of threads and nodes that have the same secrets."""

    def __init__(self, secrets: Sequence[bytes], *, clock: Clock = time.time) -> None:
        """The first secret seals, all are believed. Raises ValueError if one is too short."""
        self._seal = Seal(secrets, "robots", PREFIX)
        self._clock = clock

    def create(
        self, kind: Kind, name: str, *, lifetime: int, scopes: Sequence[str] = ()
    ) -> tuple[str, Credential]:
        """The text to hand over, which is kept nowhere, and what it says.

        `lifetime` is in seconds. Raises ValueError with a sentence.
        """
        if kind == "robot" and not _ROBOT.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be a robot's name; use lower-case letters, digits and . _ - / "
                "between them, at most 128."
            )
        if kind == "personal" and not is_name(name):
            raise ValueError(f"{name!r} cannot be a user: {NAME_RULE}.")
        if not 0 < lifetime <= LONGEST:
            raise ValueError("A token is valid for at least a second and at most ten years.")
        limits = parse_limits(scopes)
        if scopes and not limits:
            raise ValueError("The scopes are empty; name some, or give none for no limit.")
        now = int(self._clock())
        credential = Credential(secrets.token_hex(8), kind, name, limits, now, now + lifetime)
        content = {
            "id": credential.id,
            "kind": kind,
            "name": name,
            "scopes": [f"{a.type}:{a.name}:{','.join(a.actions)}" for a in credential.limits],
            "iat": now,
            "exp": credential.expires,
        }
        return self._seal.seal(content), credential

    def verify(self, text: str) -> Credential:
        """Raises CredentialInvalid if it was not made here or has expired. Revocation is for others."""
        try:
            credential = _credential(self._seal.open(text))
        except (NotSealed, KeyError, TypeError, ScopeInvalid):
            raise CredentialInvalid("The token is not one that this registry gave out.") from None
        if credential.expires <= self._clock():
            raise CredentialInvalid("The token has expired; make another one.")
        return credential


def looks_like_one(password: str) -> bool:
    """Whether a password is to be taken for a token. None is as short as what bcrypt takes."""
    return password.startswith(PREFIX) and len(password) > 72


def _credential(content: dict[str, object]) -> Credential:
    kind, name, scopes = content["kind"], content["name"], content["scopes"]
    issued, expires = content["iat"], content["exp"]
    if (
        not isinstance(content["id"], str)
        or not isinstance(name, str)
        or not isinstance(scopes, list)
        or type(issued) is not int
        or type(expires) is not int
    ):
        raise TypeError
    if kind == "robot":
        return Credential(content["id"], "robot", name, parse_limits(scopes), issued, expires)
    if kind == "personal":
        return Credential(content["id"], "personal", name, parse_limits(scopes), issued, expires)
    raise TypeError
