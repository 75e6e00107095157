"""Who asks, for what: the terms in which every authorizer decides.

Names and actions are those of the Docker token protocol (`repository:team/app:pull,push`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Access:
    """One resource and what is to be done with it."""

    type: str
    name: str
    actions: tuple[str, ...]


def repository(name: str, *actions: str) -> Access:
    return Access("repository", name, actions)


CATALOG = Access("registry", "catalog", ("*",))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who was recognised; the empty name is nobody in particular."""

    name: str = ""


class Refused(Exception):
    """The request may not be made; `challenge` is what WWW-Authenticate should say."""

    def __init__(self, reason: str, *, challenge: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.challenge = challenge


class Authorizer(Protocol):
    async def authorize(self, credentials: str | None, wanted: Sequence[Access]) -> Identity:
        """Raises Refused unless all of `wanted` is granted.

        `credentials` is the Authorization header as it came. Called before a byte of the request's
        body is read, and before anything is looked up, so that a refusal tells nothing.
        """

    @property
    def reads_everything(self) -> bool:
        """Whether everybody may pull from every repository."""
