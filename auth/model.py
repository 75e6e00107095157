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
class Asking:
    """What a request shows of who sends it."""

    authorization: str | None = None
    """The Authorization header as it came."""
    client: str = ""
    """The address, with what trusted proxies say taken into account; "" over a Unix socket."""
    certificate: str = ""
    """The subject's common name of a client certificate that TLS has verified, or ""."""
    base_url: str = ""
    """`https://host[:port]` as the client reached us, or "" if no trusted source tells."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who was recognised, and how; the empty name is nobody in particular."""

    name: str = ""
    method: str = "anonymous"
    """For the audit: anonymous, htpasswd, token, robot, oidc, certificate."""
    groups: frozenset[str] = frozenset()
    granted: tuple[Access, ...] = ()
    """What the bearer's token says of itself; empty where a policy decides instead."""
    rule: str = ""
    """What allowed the request, as the operator wrote it; for the audit."""


class Refused(Exception):
    """Who asks is not known or their token does not reach; `challenge` is for WWW-Authenticate (401)."""

    def __init__(self, reason: str, *, challenge: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.challenge = challenge


class Denied(Exception):
    """Who asks is known, and other credentials would have to be somebody else's (403)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Throttled(Exception):
    """Too many failed log-ins for this account or from this address (429)."""

    def __init__(self, reason: str, *, retry_after: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        """Seconds."""


class Undecided(Exception):
    """Something that the decision needs cannot be read now; worth trying again (503)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Authorizer(Protocol):
    async def authorize(self, asking: Asking, wanted: Sequence[Access]) -> Identity:
        """Raises Refused, Denied, Throttled or Undecided unless all of `wanted` is granted.

        Called before a byte of the request's body is read, and before anything is looked up, so that
        a refusal tells nothing.
        """

    def permits(self, identity: Identity, access: Access) -> bool:
        """Whether an identity that was recognised may also do this, for what a request does on the side:
        read the source of a mount, see a name in the catalog. Never waits.
        """

    @property
    def reads_everything(self) -> bool:
        """Whether everybody may pull from every repository."""
