"""The section `retention`: which tags go when they are old, and untagged manifests."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from registry_gc.retention.policy import Policy, Rule

from auth import patterns
from registry.config.masking import quote
from registry.config.section import Section
from registry.config.values import Switch, Text, Timeout, whole


def _repositories(value: str) -> str:
    try:
        patterns.repositories(value)
    except ValueError as error:
        raise ValueError(f"{quote(value)} {error}") from None
    if patterns.USER in value:
        raise ValueError(f"{quote(value)} has {patterns.USER}, and nobody asks here")
    return value


Repositories = Annotated[Text, AfterValidator(_repositories)]


class Keep(Section):
    closed: ClassVar[bool] = True

    newest: Annotated[int, whole(1)] | None = None
    younger: Timeout | None = None
    matching: list[Text] = Field(default_factory=list)
    pulledwithin: Timeout | None = None
    releases: Switch = False


class RetentionRule(Section):
    """Unknown keys are problems: a clause that is misspelt would keep nothing."""

    closed: ClassVar[bool] = True

    repositories: list[Repositories] = Field(default_factory=list)
    keep: Keep = Field(default_factory=Keep)
    protect: list[Text] = Field(default_factory=list)


class Retention(Section):
    closed: ClassVar[bool] = True

    untagged: Timeout | None = None
    rules: list[RetentionRule] = Field(default_factory=list)

    def build(self) -> Policy:
        return Policy(
            [
                Rule(
                    repositories=tuple(map(patterns.repositories, rule.repositories)),
                    newest=rule.keep.newest,
                    younger=rule.keep.younger,
                    matching=tuple(rule.keep.matching),
                    pulled_within=rule.keep.pulledwithin,
                    releases=rule.keep.releases,
                    protect=tuple(rule.protect),
                )
                for rule in self.rules
            ]
        )
