"""Which tags a rule keeps."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_gc.retention.policy import DAY, Policy, Rule, TagFacts

from auth.patterns import repositories
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

NOW = 1_000 * DAY
DIGEST = Digest.of(b"")
EVERYTHING = (repositories("**"),)


def facts(tag: str, days_old: float, pulled: float | None = None) -> TagFacts:
    last = None if pulled is None else NOW - pulled * DAY
    return TagFacts(Tag(tag), DIGEST, NOW - days_old * DAY, last)


def kept(rule: Rule, *tags: TagFacts, since: float | None = None) -> set[str]:
    return {each.facts.tag.value for each in rule.decide(tags, NOW, since) if each.kept}


def test_a_rule_without_a_clause_keeps_everything() -> None:
    assert kept(Rule(EVERYTHING), facts("a", 1000)) == {"a"}
    assert kept(Rule(EVERYTHING, protect=("x",)), facts("a", 1000)) == {"a"}


def test_the_newest() -> None:
    tags = [facts("a", 3), facts("b", 1), facts("c", 2)]
    assert kept(Rule(EVERYTHING, newest=2), *tags) == {"b", "c"}


def test_of_the_same_age_the_name_decides() -> None:
    assert kept(Rule(EVERYTHING, newest=1), facts("a", 1), facts("b", 1)) == {"b"}


def test_the_young() -> None:
    assert kept(Rule(EVERYTHING, younger=2 * DAY), facts("a", 1.9), facts("b", 2.1)) == {"a"}


def test_what_matches_or_is_protected() -> None:
    rule = Rule(EVERYTHING, matching=("v*",), protect=("latest",))
    tags = [facts("v1", 99), facts("latest", 99), facts("pr-1", 99)]
    assert kept(rule, *tags) == {"v1", "latest"}


@pytest.mark.parametrize(
    ("tag", "is_release"),
    [
        ("1.2.3", True),
        ("v1.2.3", True),
        ("v1.2.3_build.5", True),
        ("1.2.3-rc.1", False),
        ("1.2", False),
        ("v01.2.3", False),
        ("release", False),
    ],
)
def test_releases(tag: str, is_release: bool) -> None:
    assert kept(Rule(EVERYTHING, releases=True), facts(tag, 99)) == ({tag} if is_release else set())


def test_what_was_pulled() -> None:
    rule = Rule(EVERYTHING, pulled_within=7 * DAY)
    tags = [facts("a", 99, 6), facts("b", 99, 9), facts("c", 99)]
    assert kept(rule, *tags, since=NOW - 30 * DAY) == {"a"}


@pytest.mark.parametrize("since", [None, NOW - 3 * DAY])
def test_while_pulls_are_not_known_for_long_enough_all_stay(since: float | None) -> None:
    """Else the first run after the rule was written would take what is pulled every day."""
    assert kept(Rule(EVERYTHING, pulled_within=7 * DAY), facts("a", 99), since=since) == {"a"}


def test_the_first_rule_that_names_a_repository_is_the_one() -> None:
    first, second = Rule((repositories("ci/**"),), newest=1), Rule(EVERYTHING, newest=9)
    policy = Policy([first, second])
    assert policy.rule_for(RepositoryName("ci/app")) is first
    assert policy.rule_for(RepositoryName("app")) is second
    assert Policy([first]).rule_for(RepositoryName("app")) is None


def test_each_decision_says_by_what() -> None:
    rule = Rule(EVERYTHING, newest=1, younger=2 * DAY)
    decisions = rule.decide([facts("a", 1), facts("b", 1.5), facts("c", 9)], NOW, None)
    assert [each.reason for each in decisions] == [
        "number 1 of the newest 1",
        "younger than 2 days",
        "no clause keeps it",
    ]


tag_facts = st.builds(
    facts,
    st.text(string.ascii_lowercase, min_size=1, max_size=5),
    st.floats(0, 100),
    st.none() | st.floats(0, 100),
)
every_tag = st.lists(tag_facts, unique_by=lambda each: each.tag, max_size=20)


@given(every_tag, st.integers(1, 10))
def test_newest_keeps_so_many(tags: list[TagFacts], count: int) -> None:
    assert len(kept(Rule(EVERYTHING, newest=count), *tags)) == min(count, len(tags))


@given(every_tag, st.integers(1, 10), st.floats(1, 100))
def test_a_clause_more_never_removes_more(tags: list[TagFacts], count: int, age: float) -> None:
    one = Rule(EVERYTHING, newest=count)
    both = Rule(EVERYTHING, newest=count, younger=age * DAY, matching=("a*",))
    assert kept(one, *tags) <= kept(both, *tags)
