"""`registry auth`, `registry token` and `registry keys`: what they print where, and their exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from registry.cli import main
from tests.auth.accountfiles import htpasswd

Run = Callable[..., Result]
POLICY = """\
version: 1
groups:
  dev: [alice]
allow:
  - {name: base images, who: [everybody], repositories: [public/**], actions: [pull]}
  - {name: developers, who: [group:dev], repositories: [team/**], actions: [pull, push, delete]}
  - name: releases
    who: [{oidc: {issuer: github, ref: refs/heads/main}}]
    repositories: [team/**]
    actions: [push]
  - {name: builders, who: [group:github:builders], repositories: [team/**], actions: [pull]}
  - {name: pipelines, who: [robot:ci], repositories: [team/app], actions: [pull]}
deny:
  - {name: nothing goes, who: [everybody], repositories: [team/**], actions: [delete]}
"""
NOW = "20200101T000000Z"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    policy = tmp_path / "policy.yml"
    policy.write_text(POLICY)
    users = htpasswd(tmp_path / "users", "alice", "bob")
    path = tmp_path / "config.yml"
    path.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'storage'}}}}}\n"
        "auth:\n"
        "  builtin:\n"
        f"    {{keys: {tmp_path / 'keys'}, htpasswd: {users}, policy: {policy}, issuers: [{{name: github,\n"
        "     issuer: 'https://ci.example.com', audiences: [registry], require: {owner: [my-org]}}]}\n"
    )
    return path


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("REGISTRY_")]:
        monkeypatch.delenv(name)

    def runner(*words: str, config: Path = config) -> Result:
        return CliRunner().invoke(main, [*words, str(config)])

    return runner


@pytest.mark.parametrize(
    ("user", "repository", "action", "code", "rule"),
    [
        ("alice", "team/app", "push", 0, "developers"),
        ("alice", "team/app", "delete", 1, "nothing goes"),
        ("bob", "team/app", "pull", 1, ""),
        ("anonymous", "public/x", "pull", 0, "base images"),
        ("anonymous", "team/app", "pull", 1, ""),
        ("robot:ci", "team/app", "pull", 0, "pipelines"),
        ("robot:ci", "team/app", "push", 1, ""),
        ("github:my-org/app --claim ref=refs/heads/main", "team/app", "push", 0, "releases"),
        ("github:my-org/app --claim ref=refs/heads/next", "team/app", "push", 1, ""),
        ("github:my-org/app", "team/app", "push", 1, ""),
        ("github:my-org/app --group builders", "team/app", "pull", 0, "builders"),
    ],
)
def test_explain_says_yes_or_no_and_which_rule(
    run: Run, user: str, repository: str, action: str, code: int, rule: str
) -> None:
    who, *options = user.split()
    result = run("auth", "explain", *options, who, repository, action)
    assert result.exit_code == code, result.output
    first = result.stdout.splitlines()[0]
    assert first.startswith("no: " if code else "yes: ")
    assert rule in first
    assert len(first) > len("yes: ")


def test_explain_takes_a_group_that_is_not_in_the_files(run: Run, config: Path) -> None:
    words = ["auth", "explain", "carol", "team/app", "push", str(config), "--group", "dev"]
    assert CliRunner().invoke(main, words).exit_code == 0


def test_explain_names_the_line_of_a_broken_policy(run: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yml").write_text(
        "version: 1\nallow:\n  - {who: [everybody], repositories: ['**'], actions: [fly]}\n"
    )
    result = run("auth", "explain", "alice", "team/app", "pull")
    assert result.exit_code == 2
    assert "fly" in result.stderr
    assert "line 3" in result.stderr
    assert "Traceback" not in result.output


def test_a_token_is_shown_once_listed_and_taken_back(run: Run) -> None:
    made = run("token", "create", "ci", "--days", "30", "--scope", "repository:team/app:pull")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("hf_")
    assert len(made.stdout.split()) == 1, "what is piped on is the password alone"
    id_ = made.stderr.split()[1].rstrip(",")
    listed = run("token", "list").stdout
    assert id_ in listed
    assert "repository:team/app:pull" in listed
    assert made.stdout.strip() not in listed
    assert "revoked" not in listed
    assert run("token", "revoke", id_).exit_code == 0
    assert "revoked" in run("token", "list").stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("token", "create", "No Such Name"), 1, "cannot be a robot's name"),
        (("token", "create", "ci", "--scope", "nonsense"), 1, "nonsense"),
        (("token", "create", "ci", "--days", "0"), 2, "--days"),
        (("token", "revoke", "unknown"), 1, "no token 'unknown'"),
        (
            ("auth", "explain", "gitlab:x", "team/app", "pull"),
            2,
            "it has github. No user has a colon",
        ),
        (("auth", "explain", "alice", "team/app", "pull", "--claim", "x"), 2, "written NAME=VALUE"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, words: list[str], code: int, says: str) -> None:
    result = run(*words)
    assert result.exit_code == code
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_another_mode_has_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "plain.yml"
    path.write_text("version: 0.1\nstorage: {inmemory: {}}\n")
    for words in (["token", "list"], ["keys", "rotate"], ["keys", "prune"]):
        result = CliRunner().invoke(main, [*words, str(path)])
        assert result.exit_code == 2
        assert "auth.builtin" in result.stderr


def test_keys_are_rotated_and_old_ones_pruned(run: Run, tmp_path: Path) -> None:
    assert run("keys", "rotate").exit_code == 0
    (first,) = (tmp_path / "keys").glob("*.pem")
    old = first.rename(first.with_name(first.name.replace(first.name[:16], NOW)))
    second = run("keys", "rotate").stdout.split()[-1].rstrip(".")
    assert run("keys", "prune").stdout == "", "it was replaced a moment ago"
    (newer,) = (each for each in (tmp_path / "keys").glob("*.pem") if each != old)
    newer.rename(newer.with_name(newer.name.replace(newer.name[:16], "20210101T000000Z")))
    pruned = run("keys", "prune")
    assert pruned.exit_code == 0
    assert [each.name for each in (tmp_path / "keys").glob("*.pem")] == [
        f"20210101T000000Z-{second}.pem"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_the_registry_can_read(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    os.chown(directory, 4321, 4321)
    assert run("keys", "rotate").exit_code == 0
    assert run("token", "create", "ci").exit_code == 0
    made = [each for each in directory.iterdir() if each.name != ".creating"]
    assert len(made) == 2
    assert {(each.stat().st_uid, each.stat().st_mode & 0o777) for each in made} == {(4321, 0o600)}
