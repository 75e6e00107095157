"""Which access a request needs, and the question to the authorizer: before its body, before any look-up.

Every pair of resource and method has a rule here or is answered 405, so a route without a rule cannot
exist. What is needed is Distribution's: GET and HEAD pull; POST, PUT and PATCH pull and push; DELETE
delete. Taking back one's own upload needs no more than pushing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auth.model import (
    CATALOG,
    Access,
    Asking,
    Authorizer,
    Denied,
    Identity,
    Refused,
    Throttled,
    Undecided,
    repository,
)
from registry.errors import MethodNotAllowed
from registry.parsing import Kind, Target
from storage.model import errors
from storage.model.reference import RepositoryName

READ = ("pull",)
WRITE = ("pull", "push")
DELETE = ("delete",)

RULES: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    Kind.BASE: {"GET": (), "HEAD": ()},
    Kind.CATALOG: {"GET": ("*",), "HEAD": ("*",)},
    Kind.TAGS: {"GET": READ, "HEAD": READ},
    Kind.REFERRERS: {"GET": READ, "HEAD": READ},
    Kind.MANIFEST: {"GET": READ, "HEAD": READ, "PUT": WRITE, "DELETE": DELETE},
    Kind.BLOB: {"GET": READ, "HEAD": READ, "DELETE": DELETE},
    Kind.UPLOADS: {"POST": WRITE},
    Kind.UPLOAD: {"GET": WRITE, "HEAD": WRITE, "PATCH": WRITE, "PUT": WRITE, "DELETE": WRITE},
}


def needed(target: Target, method: str) -> list[Access]:
    """What the request needs. Raises MethodNotAllowed if the resource does not have the method."""
    rules = RULES[target.kind]
    if method not in rules:
        raise MethodNotAllowed(
            f"A {target.kind.value} does not take {method}; it takes {', '.join(sorted(rules))}.",
            rules,
        )
    actions = rules[method]
    if target.kind is Kind.BASE:
        return []
    if target.kind is Kind.CATALOG:
        return [CATALOG]
    return [repository(str(target.name), *actions)]


async def authorize(
    authorizer: Authorizer, asking: Asking, target: Target, method: str
) -> Identity:
    """Raises Unauthorized with the challenge, Denied, TooManyRequests or Unavailable."""
    wanted = needed(target, method)
    try:
        return await authorizer.authorize(asking, wanted)
    except Refused as refused:
        raise errors.Unauthorized(
            refused.reason, challenge=refused.challenge, detail=_listed(wanted)
        ) from refused
    except Denied as denied:
        raise errors.Denied(denied.reason, _listed(wanted)) from denied
    except Throttled as throttled:
        raise errors.TooManyRequests(
            throttled.reason, retry_after=throttled.retry_after
        ) from throttled
    except Undecided as undecided:
        raise errors.Unavailable(undecided.reason) from undecided


def _listed(wanted: Sequence[Access]) -> list[dict[str, str]]:
    """In the form of Distribution, which some clients print."""
    return [
        {"Type": access.type, "Class": "", "Name": access.name, "Action": action}
        for access in wanted
        for action in access.actions
    ]


def may_pull(authorizer: Authorizer, identity: Identity, name: RepositoryName) -> bool:
    """For what a request reads on the side; a refusal here is never told."""
    return authorizer.reads_everything or authorizer.permits(identity, repository(str(name), *READ))


def may_see(authorizer: Authorizer, identity: Identity, name: RepositoryName) -> bool:
    """Whether the list of repositories shows this one."""
    return authorizer.permits(identity, repository(str(name), "catalog"))
