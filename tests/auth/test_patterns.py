from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.patterns import is_repository, repositories, text


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("team/app", ["team/app"], ["team/app2", "team/ap", "x/team/app", "team/app/x"]),
        ("*", ["app"], ["team/app"]),
        ("team/*", ["team/app"], ["team", "team/app/web", "teams/app"]),
        ("team/**", ["team/app", "team/app/web"], ["team", "team2/app", "x/team/app"]),
        ("**", ["app", "team/app", "a/b/c"], []),
        ("**/app", ["app", "team/app", "a/b/app"], ["myapp", "team/my-app", "app/x"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a", "a/b", "az", "b/a/z"]),
        ("ci-*", ["ci-1", "ci-"], ["ci", "ci-1/x"]),
        ("a.b", ["a.b"], ["axb"]),
        ("*-base/*", ["py-base/app"], ["py-base", "py-base/a/b"]),
    ],
)
def test_stars(pattern: str, matching: list[str], others: list[str]) -> None:
    made = repositories(pattern)
    assert all(made.matches(name) for name in matching)
    assert not any(made.matches(name) for name in others)


def test_the_user_who_asks() -> None:
    home = repositories("{user}/**")
    assert home.matches("alice/app", "alice")
    assert not home.matches("bob/app", "alice")
    assert not home.matches("alice/app")
    assert repositories("home-{user}/*").matches("home-alice/app", "alice")
    assert repositories("*/{user}").matches("a/j.doe", "j.doe")


@pytest.mark.parametrize(
    "user",
    ["", "*", "**", ".*", "a/b", "Alice", "a..b", ".", "..", "a b", "a\n", "é", "[a-z]+", "{user}"],
)
def test_a_user_whose_name_no_repository_has_gets_nothing_by_it(user: str) -> None:
    home = repositories("{user}/**")
    for name in ("alice/app", f"{user}/app", "a/b/app", f"{user.lower()}/app"):
        assert not home.matches(name, user)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "1 to 255"),
        ("a" * 256, "1 to 255"),
        ("/a", "slash"),
        ("a/", "slash"),
        ("a//b", "slash"),
        ("Team/*", "capital"),
        ("team**", "alone"),
        ("a/***", "alone"),
        ("**/a/**/b/**", "more than 2"),
        ("a*b*c*", "more than 2"),
        ("{name}/*", "{user}"),
        ("{user", "{user}"),
        ("a?", "characters"),
        ("[a]", "characters"),
        ("a b", "characters"),
        ("é", "characters"),
    ],
)
def test_a_pattern_that_means_something_else_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        repositories(pattern)


def test_text_has_any_characters() -> None:
    assert text("refs/heads/*").matches("refs/heads/main")
    assert not text("refs/heads/*").matches("refs/heads/a/b")
    assert text("refs/heads/**").matches("refs/heads/a/b")
    assert text("repo:my-org/*:ref:refs/heads/main").matches("repo:my-org/App:ref:refs/heads/main")
    assert text("https://example.com/x").matches("https://example.com/x")
    assert not text("a.c").matches("abc")
    assert not text("main").matches("main\n")
    with pytest.raises(ValueError, match="braces"):
        text("{user}")


def test_the_worst_pattern_takes_no_time() -> None:
    worst = repositories("**/a*a*a/**/*a*b")
    begun = time.thread_time()
    assert not worst.matches(("a" * 25 + "/") * 9 + "a" * 20 + "c")
    assert not worst.matches("/".join("a" * 127))
    assert time.thread_time() - begun < 0.5


@given(st.text(alphabet="ab/*.-", min_size=1, max_size=12), st.text(alphabet="ab/.-", max_size=12))
def test_a_star_never_crosses_a_slash(source: str, name: str) -> None:
    try:
        pattern = repositories(source)
    except ValueError:
        return
    if "**" not in source and pattern.matches(name):
        assert source.count("/") == name.count("/")
    if "*" not in source:
        assert pattern.matches(name) == (name == source)


@pytest.mark.parametrize("name", ["a", "a/b", "a.b/c__d", "a--b"])
def test_names_of_repositories(name: str) -> None:
    assert is_repository(name)


@pytest.mark.parametrize("name", ["", "A", "a/", "/a", "a//b", "../a", "a/..", "a\n", "*", "a:b"])
def test_names_that_no_repository_has(name: str) -> None:
    assert not is_repository(name)
