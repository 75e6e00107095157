"""What an identity may do: what the policy gives, within what its credentials are limited to."""

from __future__ import annotations

from typing import Final, Protocol

from auth.bearer import grants
from auth.login import Login
from auth.model import CATALOG, Access, Identity
from auth.policy import CATALOG as SHOW
from auth.policy import Decision, Policy, world_readable
from auth.scopes import within

OUTSIDE: Final = "the scopes of the credentials do not reach that far"


class PolicySource(Protocol):
    """Where the policy in force is; auth.policy_file.PolicyFile is one."""

    @property
    def policy(self) -> Policy: ...

    @property
    def problem(self) -> str | None: ...

    async def refreshed(self) -> None: ...


class Rights:
    """Used by any number of threads; never waits, but for refreshed()."""

    def __init__(self, policy: Policy | PolicySource) -> None:
        self._source = policy
        self._judged: Policy | None = None
        self._world_readable = False

    async def refreshed(self) -> None:
        """Take over a changed policy file."""
        if not isinstance(self._source, Policy):
            await self._source.refreshed()

    @property
    def policy(self) -> Policy:
        return self._source if isinstance(self._source, Policy) else self._source.policy

    @property
    def problem(self) -> str | None:
        return None if isinstance(self._source, Policy) else self._source.problem

    @property
    def world_readable(self) -> bool:
        policy = self.policy
        if self._judged is not policy:
            self._judged, self._world_readable = policy, world_readable(policy)
        return self._world_readable

    def decide(self, identity: Identity, access: Access) -> Decision:
        """For a request. The list of repositories may be asked for by whoever may see some of it."""
        if access == CATALOG:
            allowed = self.policy.may_list(identity)
            return Decision(allowed, "the list shows what may be seen" if allowed else "")
        if not _reaches(identity, access):
            return Decision(False, OUTSIDE)
        return self.policy.decide(identity, access)

    def granted(self, identity: Identity, access: Access) -> Access:
        """The part of what is asked for that a token may grant."""
        actions = [
            action
            for action in access.actions
            if self.decide(identity, Access(access.type, access.name, (action,))).allowed
        ]
        return Access(access.type, access.name, tuple(actions))

    def permits(self, identity: Identity, access: Access) -> bool:
        """For what a request does on the side. Of the whole list: whether every name may be seen."""
        if not _reaches(identity, access) or not self.policy.decide(identity, access).allowed:
            return False
        if isinstance(identity, Login) and identity.by_token:
            # A token for the list has no names in it, and the list needs an answer for each.
            listing = access.actions == (SHOW,) and grants(identity.granted, CATALOG)
            return listing or grants(identity.granted, access)
        return True


def _reaches(identity: Identity, access: Access) -> bool:
    if not isinstance(identity, Login) or not identity.limits:
        return True
    return within(identity.limits, access)
