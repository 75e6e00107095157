"""Globs over names with slashes: `*` stays within a component, `**` stands for any of them.

`team/*` is `team/app` and not `team/app/web`; `team/**` is both, and not `team` itself; `**/app` is
also `app`. `{user}` in a pattern for repositories is the name of the user who asks, where that is a
whole component or part of one. Matching takes time in proportion to the name, or nearly: the number
of stars is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

USER: Final = "{user}"
EVERYTHING: Final = "**"

_STARS = 2  # for each kind, in a pattern and in a component
_LIMIT = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_USER = re.compile(_COMPONENT, re.ASCII)
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_REPOSITORY_PART = re.compile(r"[a-z0-9._*-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Made by `repositories` and `text`, which check it."""

    source: str

    def matches(self, name: str, user: str = "") -> bool:
        """`user` is the name that `{user}` stands for; without one, or with one that cannot be a
        component of a repository's name, a pattern with `{user}` matches nothing.
        """
        if USER in self.source and not _USER.fullmatch(user):
            return False
        return (
            _compiled(self.source, user if USER in self.source else "").fullmatch(name) is not None
        )


def is_repository(name: str) -> bool:
    """Whether a repository can be called so (distribution-spec, "Pulling manifests")."""
    return len(name) <= _LIMIT and _REPOSITORY.fullmatch(name) is not None


def repositories(source: str) -> Pattern:
    """A pattern of repository names. Raises ValueError with what is wrong with it, as half a sentence."""
    _check(source)
    if source != source.lower():
        raise ValueError("has capital letters, and repository names have none")
    for part in source.split("/"):
        plain = part.replace(USER, "u")
        if not plain:
            raise ValueError("begins or ends with a slash, or has two in a row")
        if "{" in plain or "}" in plain:
            raise ValueError("has braces; the only word in braces is {user}")
        if not _REPOSITORY_PART.fullmatch(plain):
            raise ValueError("has characters that no repository name has; wildcards are * and **")
    return Pattern(source)


def text(source: str) -> Pattern:
    """A pattern of other names, such as branches. Raises ValueError like `repositories`."""
    _check(source)
    if "{" in source or "}" in source:
        raise ValueError("has braces, which stand for nothing here")
    return Pattern(source)


def _check(source: str) -> None:
    if not source or len(source) > _LIMIT:
        raise ValueError(f"has to have 1 to {_LIMIT} characters")
    parts = source.split("/")
    if parts.count(EVERYTHING) > _STARS:
        raise ValueError(f"has ** more than {_STARS} times; write several patterns")
    for part in parts:
        if EVERYTHING in part and part != EVERYTHING:
            raise ValueError("has ** beside other characters; it stands alone between slashes")
        if part != EVERYTHING and part.count("*") > _STARS:
            raise ValueError(f"has * more than {_STARS} times between slashes")


@lru_cache(maxsize=8192)
def _compiled(source: str, user: str) -> re.Pattern[str]:
    parts = source.split("/")
    expression = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == EVERYTHING:
            expression += ".+" if last else "(?:.+/)?"
        else:
            literal = part.replace(USER, "\0").split("*")
            pieces = (re.escape(piece).replace("\0", re.escape(user)) for piece in literal)
            expression += "[^/]*".join(pieces) + ("" if last else "/")
    return re.compile(expression, re.DOTALL)
