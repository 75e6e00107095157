"""Scopes: `type:name:action,action`, as clients ask for them and as credentials are limited by them.

The grammar is that of the Docker token protocol (`docs/spec/auth/scope.md` of Distribution): a name may
contain colons, so the type ends at the first and the actions begin after the last one; a class, as in
`repository(plugin)`, is read and means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from auth import patterns
from auth.model import CATALOG, Access
from auth.patterns import Pattern
from auth.policy import DELETE, PULL, PUSH

LIMIT: Final = 100
"""Scopes in one question: a push that mounts asks for one for each source."""

_LENGTH: Final = 1024
_TYPE = re.compile(r"([a-z]{1,32})(?:\([a-z0-9]{1,32}\))?", re.ASCII)
_ACTION = re.compile(r"\*|[a-z]{1,32}", re.ASCII)
_EVERY: Final = (PULL, PUSH, DELETE)
_LIMITED: Final = frozenset({*_EVERY, "catalog"})


class ScopeInvalid(ValueError):
    """The text is a sentence that the client may read."""


def parse(texts: Iterable[str]) -> list[Access]:
    """What is asked for, each resource once, in order. Raises ScopeInvalid.

    Each text may hold several scopes with spaces between. `*` of a repository is pull, push and delete.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    for count, word in enumerate(_words(texts), 1):
        if count > LIMIT:
            raise ScopeInvalid(f"More than {LIMIT} scopes are asked for at once; ask for fewer.")
        access = _one(word)
        actions = found.setdefault((access.type, access.name), {})
        actions.update(dict.fromkeys(access.actions))
    return [Access(kind, name, tuple(actions)) for (kind, name), actions in found.items()]


def parse_limits(texts: Iterable[str]) -> tuple[Access, ...]:
    """What a credential is limited to; names of repositories are patterns. Raises ScopeInvalid."""
    limits: list[Access] = []
    for word in _words(texts):
        access = _one(word)
        if access == CATALOG:
            limits.append(access)
            continue
        if access.type != "repository" or not _LIMITED.issuperset(access.actions):
            raise ScopeInvalid(
                f"{word[:200]!r} limits nothing; write repository:NAME:pull,push with a name such as "
                "team/** and the actions pull, push or delete."
            )
        if patterns.USER in access.name:
            raise ScopeInvalid(f"{access.name!r} has {patterns.USER}, which a scope cannot have.")
        try:
            patterns.repositories(access.name)
        except ValueError as error:
            raise ScopeInvalid(f"The repository {access.name!r} {error}.") from None
        limits.append(access)
    return tuple(limits)


def within(limits: Sequence[Access], access: Access) -> bool:
    """Whether all of `access` is in the limits. Seeing a name that may be pulled is."""
    return all(_reaches(limits, access.type, access.name, action) for action in access.actions)


def _reaches(limits: Sequence[Access], kind: str, name: str, action: str) -> bool:
    for limit in limits:
        if limit.type != kind:
            continue
        if kind == "registry":
            reached = limit == CATALOG and name == CATALOG.name
        else:
            listed = action in limit.actions or (action == "catalog" and PULL in limit.actions)
            reached = listed and Pattern(limit.name).matches(name)
        if reached:
            return True
    return False


def _words(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        if len(text) > LIMIT * _LENGTH:
            raise ScopeInvalid("The scopes are too long; ask for fewer.")
        yield from text.split()


def _one(word: str) -> Access:
    kind, _, rest = word.partition(":")
    name, colon, listed = rest.rpartition(":")
    match = _TYPE.fullmatch(kind)
    if len(word) > _LENGTH or match is None or not colon or not name:
        raise ScopeInvalid(f"{word[:200]!r} is not a scope; write type:name:action,action.")
    actions = [action for action in listed.split(",") if action]
    if not all(_ACTION.fullmatch(action) for action in actions):
        raise ScopeInvalid(f"{word[:200]!r} has something that is no action; pull and push are.")
    if match[1] == "repository" and "*" in actions:
        actions = [*(a for a in actions if a != "*"), *_EVERY]
    return Access(match[1], name, tuple(dict.fromkeys(actions)))
