"""Looking at the tags of every repository that has a rule, and removing those that no clause keeps.

A tag is removed as a client would delete it, with a record in the journal, and only if it still names
what it named when it was judged: one that was pushed meanwhile is a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from registry_gc.outcome import Braked
from registry_gc.retention.policy import Decision, Policy, Rule, TagFacts
from storage import layout, links, pushed
from storage.catalog import Catalog
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.reference import RepositoryName, Tag
from storage.pushed import Pushed
from storage.tags import Tags

log = logging.getLogger("holdfast.collection")

MANY = 10
"""A repository that has so many tags and would lose them all looks like a mistake in a rule."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One repository."""

    name: RepositoryName
    rule: Rule
    decisions: list[Decision]

    @property
    def removed(self) -> list[TagFacts]:
        return [each.facts for each in self.decisions if not each.kept]


def judge(driver: Driver, policy: Policy, pool: Executor, now: float) -> Iterator[Judged]:
    """Each repository that has a rule. `now` is by the store's clock. Raises the driver's errors."""
    if not policy.rules:
        return
    since = _modified(driver, layout.PULLS_SINCE)
    for name in Catalog(driver).walk():
        rule = policy.rule_for(name)
        if rule is None or rule.keeps_everything:
            continue
        tags = Tags(driver, name).list()[0]
        before = pushed.load(driver, name)
        facts = pool.map(
            lambda tag, name=name, rule=rule, before=before: _facts(
                driver, name, tag, rule, before
            ),
            tags,
        )
        known = [each for each in facts if each is not None]
        yield Judged(name, rule, rule.decide(known, now, since))


def apply(
    driver: Driver, policy: Policy, pool: Executor, now: float, *, run: str, force: bool
) -> int:
    """How many tags were removed. Raises Braked, having removed none."""
    judged = [*judge(driver, policy, pool, now)]
    for each in judged:
        if not force and len(each.decisions) >= MANY and len(each.removed) == len(each.decisions):
            raise Braked(
                f"By its retention rule {each.name} would lose all of its {len(each.decisions)} tags. "
                "Nothing was removed. Look with `registry-gc retention --dry-run`; if that is meant, "
                "give --force."
            )
    removed = 0
    for each in judged:
        tags = Tags(driver, each.name)
        for facts in each.removed:
            removed += tags.expire(facts.tag, facts.digest, run)
    return removed


def _facts(
    driver: Driver, name: RepositoryName, tag: Tag, rule: Rule, before: Pushed
) -> TagFacts | None:
    """None if it vanished meanwhile."""
    key = layout.tag_current(name, tag)
    digest = links.read(driver, key)
    modified = _modified(driver, key)
    if digest is None or modified is None:
        return None
    pulled = None
    if rule.pulled_within is not None:
        marks = layout.pulled(name, tag), layout.pulled_by_digest(name, digest)
        times = (_modified(driver, mark) for mark in marks)
        pulled = max((each for each in times if each is not None), default=None)
    return TagFacts(tag, digest, before.time_of(tag, digest, modified), pulled)


def _modified(driver: Driver, key: str) -> float | None:
    try:
        return driver.stat(key).modified
    except ObjectNotFound:
        return None
