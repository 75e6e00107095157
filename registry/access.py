"""Which access a request needs, and the question to the authorizer: before its body, before any look-up.

Every pair of resource and method has a rule here or is answered 405, so a route without a rule cannot
exist. What is needed is Distribution's: GET and HEAD pull; POST, PUT and PATCH pull and push; DELETE
delete. Taking back one's own upload needs no more than pushing it.
"""

from __future__ import annotations

from collections.abc import Mapping

from auth.model import CATALOG, Access, Authorizer, Identity, Refused, repository
from registry.errors import MethodNotAllowed
from registry.parsing import Kind, Target
from storage.model.errors import Unauthorized

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
    authorizer: Authorizer, credentials: str | None, target: Target, method: str
) -> Identity:
    """Raises Unauthorized with the challenge."""
    wanted = needed(target, method)
    try:
        return await authorizer.authorize(credentials, wanted)
    except Refused as refused:
        detail = [
            {"Type": access.type, "Class": "", "Name": access.name, "Action": action}
            for access in wanted
            for action in access.actions
        ]
        raise Unauthorized(refused.reason, challenge=refused.challenge, detail=detail) from refused
