"""The rules by which tags are kept, and what each says of the tags of one repository.

The first rule that names a repository is the one for it; a repository that no rule names keeps all its
tags. A tag is kept if any of a rule's clauses keeps it, so a clause more never removes more; and a rule
without a clause keeps everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from auth.patterns import Pattern
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

DAY: Final = 86400.0
_RELEASE: Final = re.compile(
    r"v?(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:_[0-9A-Za-z.-]+)?", re.ASCII
)
"""Semantic versions without a pre-release; a tag has `_` where the version has `+`."""


@dataclass(frozen=True, slots=True)
class TagFacts:
    """Times by the store's clock."""

    tag: Tag
    digest: Digest
    pushed: float
    pulled: float | None = None
    """The last pull that is known of, to the day."""


@dataclass(frozen=True, slots=True)
class Decision:
    facts: TagFacts
    kept: bool
    reason: str
    """By what, in words."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Durations in seconds; patterns of tags are globs."""

    repositories: tuple[Pattern, ...]
    newest: int | None = None
    younger: float | None = None
    matching: tuple[str, ...] = ()
    pulled_within: float | None = None
    releases: bool = False
    protect: tuple[str, ...] = ()

    @property
    def keeps_everything(self) -> bool:
        return not (
            self.newest is not None
            or self.younger is not None
            or self.matching
            or self.pulled_within is not None
            or self.releases
        )

    def decide(
        self, tags: Iterable[TagFacts], now: float, pulls_since: float | None
    ) -> list[Decision]:
        """Newest first. `pulls_since`: since when last pulls are known; None if they are not.

        While that is shorter than `pulled_within` nobody can say that a tag was not pulled, so all stay.
        """
        ordered = sorted(tags, key=lambda each: (each.pushed, each.tag.value), reverse=True)
        decisions = []
        for place, facts in enumerate(ordered, 1):
            reason = self._reason(facts, place, now, pulls_since)
            decisions.append(Decision(facts, reason is not None, reason or "no clause keeps it"))
        return decisions

    def _reason(
        self, facts: TagFacts, place: int, now: float, pulls_since: float | None
    ) -> str | None:
        name = facts.tag.value
        if self.keeps_everything:
            return "the rule has no clause"
        for pattern in self.protect:
            if fnmatchcase(name, pattern):
                return f"protected by {pattern}"
        for pattern in self.matching:
            if fnmatchcase(name, pattern):
                return f"matches {pattern}"
        if self.releases and _RELEASE.fullmatch(name):
            return "is a release"
        if self.newest is not None and place <= self.newest:
            return f"number {place} of the newest {self.newest}"
        if self.younger is not None and now - facts.pushed < self.younger:
            return f"younger than {days(self.younger)}"
        if self.pulled_within is not None:
            if facts.pulled is not None and now - facts.pulled < self.pulled_within + DAY:
                return f"pulled within {days(self.pulled_within)}"
            if pulls_since is None or now - pulls_since < self.pulled_within:
                return f"pulls are not known for {days(self.pulled_within)} yet"
        return None


@dataclass(frozen=True, slots=True)
class Policy:
    rules: Sequence[Rule] = ()

    @property
    def needs_pulls(self) -> bool:
        return any(rule.pulled_within is not None for rule in self.rules)

    def rule_for(self, name: RepositoryName) -> Rule | None:
        """None: nobody has said anything, so everything stays."""
        for rule in self.rules:
            if any(pattern.matches(str(name)) for pattern in rule.repositories):
                return rule
        return None


def days(seconds: float) -> str:
    return f"{seconds / DAY:g} days" if seconds >= 2 * DAY else f"{seconds / 3600:g} hours"
