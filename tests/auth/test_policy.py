from __future__ import annotations

import time
from pathlib import Path

import pytest

from auth.documents import Invalid
from auth.model import CATALOG, Access, Identity, repository
from auth.policy import NO_RULE, Policy, Rule, claim, everything, world_readable
from auth.policy_file import PolicyFile, parse
from auth.watched import Unusable
from tests.auth.accountfiles import Clock

ANONYMOUS = Identity()
ALICE = Identity("alice", "htpasswd")
BOB = Identity("bob", "htpasswd")
CAROL = Identity("carol", "htpasswd", frozenset({"ops"}))
ROBOT = Identity("robot:ci-web", "robot")
JOB = Identity(
    "github:my-org/app",
    "oidc",
    frozenset(
        {
            claim("github", "repository", "my-org/app"),
            claim("github", "ref", "refs/heads/main"),
            "github:builders",
        }
    ),
)

POLICY = """\
version: 1
groups:
  dev: [alice, bob]
allow:
  - name: developers
    who: [group:dev, robot:ci-*]
    repositories: [team/**, shared]
    actions: [pull, push]
  - who: authenticated
    repositories: ["{user}/**"]
    actions: all
  - who: [everybody]
    repositories: [public/*]
    actions: [pull]
  - who:
      - oidc: {issuer: github, repository: my-org/*, ref: refs/heads/main}
      - group: ops
    repositories: [team/**, prod/**]
    actions: [pull, push]
deny:
  - name: freeze
    who: [everybody]
    except: [group:ops]
    repositories: [prod/**, team/frozen]
    actions: [push, delete]
  - who: [user:bob]
    repositories: [public/secret]
    actions: [pull]
"""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return parse(POLICY.encode())


@pytest.mark.parametrize(
    ("who", "name", "actions", "rule"),
    [
        (ALICE, "team/app", "pull push", "allow rule 1 'developers' (line 5)"),
        (ROBOT, "team/app", "pull push", "allow rule 1 'developers' (line 5)"),
        (ALICE, "alice/app", "pull push delete", "allow rule 2 (line 9)"),
        (BOB, "bob/a/b", "delete", "allow rule 2 (line 9)"),
        (ANONYMOUS, "public/app", "pull", "allow rule 3 (line 12)"),
        (BOB, "public/app", "pull", "allow rule 3 (line 12)"),
        (ANONYMOUS, "public/app", "catalog", "allow rule 3 (line 12)"),  # what is pulled is seen
        (CAROL, "prod/app", "push", "allow rule 4 (line 15)"),
        (JOB, "team/app", "push", "allow rule 4 (line 15)"),
        (JOB, "prod/app", "pull", "allow rule 4 (line 15)"),
        (CAROL, "team/frozen", "push", "allow rule 4 (line 15)"),
    ],
)
def test_allowed(policy: Policy, who: Identity, name: str, actions: str, rule: str) -> None:
    decision = policy.decide(who, repository(name, *actions.split()))
    assert (decision.allowed, decision.rule) == (True, rule)


@pytest.mark.parametrize(
    ("who", "name", "actions", "rule"),
    [
        (ALICE, "team/app", "delete", NO_RULE),
        (ALICE, "team/app", "pull delete", NO_RULE),
        (ALICE, "team/app", "*", NO_RULE),
        (ALICE, "team", "pull", NO_RULE),
        (ALICE, "bob/app", "pull", NO_RULE),
        (ALICE, "shared/app", "pull", NO_RULE),
        (CAROL, "team/app", "delete", NO_RULE),
        (ANONYMOUS, "team/app", "pull", NO_RULE),
        (ANONYMOUS, "public/app", "push", NO_RULE),
        (ANONYMOUS, "public/a/b", "pull", NO_RULE),
        (ALICE, "team/app", "own", NO_RULE),
        (ALICE, "team/frozen", "push", "deny rule 1 'freeze' (line 21)"),
        (JOB, "prod/app", "push", "deny rule 1 'freeze' (line 21)"),
        (BOB, "public/secret", "pull", "deny rule 2 (line 26)"),
        (BOB, "public/secret", "catalog", "deny rule 2 (line 26)"),
        (ALICE, "../team/app", "pull", NO_RULE),
        (ALICE, "team/..", "pull", NO_RULE),
        (ALICE, "team/A", "pull", NO_RULE),
    ],
)
def test_refused(policy: Policy, who: Identity, name: str, actions: str, rule: str) -> None:
    decision = policy.decide(who, repository(name, *actions.split()))
    assert (decision.allowed, decision.rule) == (False, rule)


@pytest.mark.parametrize(
    "who",
    [
        Identity("alice", "robot"),
        Identity("robot:alice", "robot"),
        Identity("alice", "oidc"),
        Identity("github:alice", "oidc"),
        Identity("other:ci-1", "robot"),
        Identity("robot:ci-web", "htpasswd"),
        Identity("robot:ci-web", "oidc"),
        Identity("dev", "htpasswd"),
        Identity("Alice", "htpasswd"),
        Identity("alice", "anonymous"),
        Identity("github:x", "oidc", frozenset({claim("github", "repository", "my-org/app")})),
        Identity(
            "github:x",
            "oidc",
            frozenset(
                {
                    claim("github", "repository", "my-org-2/app"),
                    claim("github", "ref", "refs/heads/main"),
                }
            ),
        ),
        Identity(
            "gitlab:x",
            "oidc",
            frozenset(
                {
                    claim("gitlab", "repository", "my-org/app"),
                    claim("gitlab", "ref", "refs/heads/main"),
                }
            ),
        ),
        Identity("robot:x", "robot", JOB.groups),
        Identity("github:x", "htpasswd", JOB.groups),
    ],
)
def test_nobody_takes_the_place_of_another(policy: Policy, who: Identity) -> None:
    for name in ("team/app", "alice/app", "prod/app"):
        assert not policy.decide(who, repository(name, "pull"))


def test_the_order_of_rules_means_nothing(policy: Policy) -> None:
    turned = Policy(tuple(reversed(policy.rules)), policy.groups)
    for who in (ANONYMOUS, ALICE, BOB, CAROL, ROBOT, JOB):
        for name in ("team/app", "team/frozen", "public/secret", "prod/app", "alice/app"):
            for action in ("pull", "push", "delete", "catalog", "*"):
                asked = repository(name, action)
                assert policy.decide(who, asked).allowed == turned.decide(who, asked).allowed


def test_what_is_granted_of_more(policy: Policy) -> None:
    asked = repository("team/app", "delete", "push", "pull", "push")
    assert policy.granted(ALICE, asked) == repository("team/app", "push", "pull")
    assert policy.granted(ANONYMOUS, asked) == repository("team/app")


def test_the_list(policy: Policy) -> None:
    assert not policy.may_list(ANONYMOUS)
    assert policy.may_list(BOB)
    assert not policy.decide(CAROL, CATALOG)
    text = POLICY + "  - who: [user:bob]\n    repositories: [x/**]\n    actions: [catalog]\n"
    seeing = "allow:\n  - {who: [everybody], repositories: ['**'], actions: [catalog]}\n"
    made = parse(text.replace("allow:\n", seeing).encode())
    assert made.may_list(ANONYMOUS)
    assert made.decide(CAROL, CATALOG)
    assert made.decide(ANONYMOUS, repository("team/app", "catalog"))
    assert not made.decide(ANONYMOUS, repository("team/app", "pull"))
    assert not made.decide(BOB, CATALOG)  # there is something that he may not see
    assert not made.decide(BOB, repository("x/y", "catalog"))


def test_no_resource_but_repositories_and_the_list(policy: Policy) -> None:
    admin = parse(b"version: 1\nallow: [{who: everybody, repositories: '**', actions: all}]")
    assert admin.decide(ALICE, CATALOG)
    for access in (
        Access("registry", "catalog", ("pull",)),
        Access("registry", "config", ("*",)),
        Access("plugin", "team/app", ("pull",)),
    ):
        assert not admin.decide(ALICE, access)


def test_explanations(policy: Policy) -> None:
    assert policy.explain(ALICE, repository("team/frozen", "push", "pull")) == [
        "push on team/frozen: no, deny rule 1 'freeze' (line 21).",
        "  allow rule 1 'developers' (line 5) would allow it.",
        "pull on team/frozen: yes, allow rule 1 'developers' (line 5).",
    ]
    shouting = policy.explain(Identity("Alice", "htpasswd"), repository("alice/x", "pull"))
    assert shouting == [
        "pull on alice/x: no, no rule allows it.",
        "Alice cannot be part of a repository's name, so {user} never fits it.",
    ]


def test_without_a_policy_users_do_everything_and_others_what_was_said() -> None:
    closed, open_ = everything(), everything(anonymous_pull=True)
    for policy in (closed, open_):
        assert policy.decide(ALICE, repository("x", "pull", "push", "delete"))
        assert policy.decide(ALICE, CATALOG)
        assert not policy.decide(ANONYMOUS, repository("x", "push"))
        assert not policy.may_list(ANONYMOUS)
    assert not closed.decide(ANONYMOUS, repository("x", "pull"))
    assert open_.decide(ANONYMOUS, repository("x", "pull"))
    assert (world_readable(closed), world_readable(open_)) == (False, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("allow: [{who: everybody, repositories: '**', actions: pull}]", True),
        ("allow: [{who: [anonymous, authenticated], repositories: '**', actions: pull}]", True),
        ("allow: [{who: authenticated, repositories: '**', actions: pull}]", False),
        ("allow: [{who: anonymous, repositories: '**', actions: pull}]", False),
        ("allow: [{who: everybody, repositories: 'a/**', actions: pull}]", False),
        ("allow: [{who: everybody, repositories: '**', actions: push}]", False),
        (
            "allow: [{who: everybody, repositories: '**', actions: pull}]\n"
            "deny: [{who: user:x, repositories: y, actions: all}]",
            False,
        ),
        ("deny: []", False),
    ],
)
def test_whether_all_is_public(text: str, expected: bool) -> None:
    assert world_readable(parse(f"version: 1\n{text}".encode())) is expected


def test_everything_wrong_is_said_at_once_with_its_line() -> None:
    text = """\
version: 2
roles: {}
groups:
  dev: [a b]
  x:y: [alice]
allow:
  - who: [alice, group, grup:dev, group:dev ops, {oidc: {repository: x}}, anonymus]
    repository: [a]
    actions: [pul, read, all]
  - who: []
    repositories: [Team/*, a**]
    actions: pull
  - except: [user:x]
    who: everybody
    repositories: a
    actions: pull
deny:
  who: everybody
"""
    with pytest.raises(Invalid) as refused:
        parse(text.encode())
    found = refused.value.problems
    for expected in (
        "line 1: version is to be 1",
        "line 2: 'roles' is not a key of the policy",
        "line 4: 'a b' cannot be a user",
        "line 5: 'x:y' cannot be the name of a group",
        "line 7: 'alice' does not say what it is; write user:alice",
        "line 7: 'group' lacks a name; write group:NAME",
        "line 7: 'grup' is no kind of subject; did you mean 'group'",
        "line 7: 'dev ops' is no group",
        "line 7: oidc lacks 'issuer'",
        "line 7: 'anonymus' does not say what it is; write user:anonymus or group:..., or did you",
        "line 8: 'repository' is not a key of allow rule 1; did you mean 'repositories'.",
        "line 7: allow rule 1 lacks 'repositories'",
        "line 9: 'pul' is not an action; did you mean 'pull'.",
        "line 9: 'read' is not an action; it is one of pull, push, delete, catalog, all.",
        "line 10: who of allow rule 2 is empty",
        "line 11: the repository 'Team/*' has capital letters",
        "line 11: the repository 'a**' has ** beside other characters",
        "line 13: allow rule 3 has 'except', which only deny rules have",
        "line 18: deny is to be a list of rules",
    ):
        assert any(problem.startswith(expected) for problem in found), expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "allow: []",
        "version: 1\nallow:\n  who: x",
        "- a",
        "version: 1\nallow: [null]",
        "version: 1\nversion: 1",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text.encode())


def test_an_alias_bomb_is_refused_at_once() -> None:
    items = ", ".join(f"user:u{n}" for n in range(1000))
    rules = "\n".join("  - {who: *w, repositories: a, actions: pull}" for _ in range(1000))
    first = f"  - {{who: &w [{items}], repositories: a, actions: pull}}"
    begun = time.thread_time()
    with pytest.raises(Invalid, match="more than"):
        parse(f"version: 1\nallow:\n{first}\n{rules}\n".encode())
    assert time.thread_time() - begun < 20


def test_a_policy_with_fifty_rules_is_gone_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = "\n".join(
        f"  - {{who: [group:g{n}, user:u{n}], repositories: ['t{n}/**', 'x/*/y{n}', '{{user}}/**'], "
        "actions: [pull, push]}"
        for n in range(50)
    )
    policy = parse(f"version: 1\nallow:\n{rules}\n".encode())
    who = Identity("u49", "htpasswd", frozenset({"g48", "g7"}))
    asked = repository("t49/app", "pull", "push")
    looked = 0
    reaches = Rule.reaches

    def counted(rule: Rule, name: str, user: str) -> bool:
        nonlocal looked
        looked += 1
        return reaches(rule, name, user)

    monkeypatch.setattr(Rule, "reaches", counted)
    for _ in range(2000):
        assert policy.decide(who, asked)
    assert looked <= 2 * 3, "two actions, and three rules that concern who asks"


def test_the_cache_is_bounded(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auth.policy._CACHED", 10)
    made = Policy(policy.rules, policy.groups)
    for number in range(100):
        assert made.decide(Identity(f"u{number}", "htpasswd"), repository(f"u{number}/x", "pull"))
    assert len(made._decisions) <= 10
    assert len(made._concerned) <= 10


def test_a_changed_file_is_another_policy_and_a_broken_one_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "policy.yml", Clock()
    path.write_text(POLICY)
    file = PolicyFile(str(path), clock=clock)
    assert not file.policy.decide(ALICE, repository("new", "pull"))

    path.write_text(POLICY.replace("shared]", "shared, new]"))
    clock.pass_(1)
    file.refresh()
    assert file.policy.decide(ALICE, repository("new", "pull"))

    path.write_text("version: 1\nalow: []\nallow: 1\n")
    clock.pass_(1)
    file.refresh()
    assert file.policy.decide(ALICE, repository("new", "pull"))
    assert file.problem is not None
    assert "line 2: 'alow' is not a key of the policy; did you mean 'allow'." in file.problem
    assert "line 3: allow is to be a list" in file.problem
    assert "stays in force" in file.problem
    assert file.problem in caplog.text

    path.write_text(POLICY)
    clock.pass_(1)
    file.refresh()
    assert file.problem is None


def test_a_broken_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_text("version: 1\nallow: 1\n")
    with pytest.raises(Unusable, match="line 2: allow is to be a list"):
        PolicyFile(str(path))
