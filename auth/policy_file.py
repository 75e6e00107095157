"""The policy file: its form, strictly read, and read again when it changes.

Form (the meaning is in auth/policy.py):

    version: 1
    groups:
      dev: [alice, bob]
    allow:
      - name: developers push              # optional; for the log
        who: [group:dev, robot:ci-*]
        repositories: [team/**, "{user}/**"]
        actions: [pull, push]
      - who:
          - oidc: {issuer: github, repository: my-org/*, ref: refs/heads/main}
        repositories: [team/**]
        actions: [pull, push]
    deny:
      - who: [everybody]
        except: [group:ops]
        repositories: [prod/**]
        actions: [push, delete]

Everything that is wrong is said at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, cast

import yaml

from auth import patterns
from auth.accounts import NAME_RULE, is_name
from auth.documents import Document, Invalid, compose, line, shown, suggestion
from auth.patterns import Pattern
from auth.policy import ACTIONS, AUTHENTICATED, EVERYBODY, Kind, Policy, Rule, Subject
from auth.users import memberships
from auth.watched import INTERVAL, Clock, Unusable, WatchedFile

ALL_ACTIONS: Final = "all"

_WORDS: Final = (EVERYBODY, AUTHENTICATED, "anonymous")
_KINDS: Final = ("user", "group", "robot", "oidc")
_RULE_KEYS: Final = ("name", "who", "repositories", "actions")
_NEEDED: Final = ("who", "repositories", "actions")


def parse(data: bytes, source: str = "policy") -> Policy:
    """Raises Invalid with everything that is wrong."""
    document = compose(data)
    keys = ("version", "groups", "allow", "deny")
    top = document.section(document.root, "the policy", keys, ("version",))
    if "version" in top and document.text(top["version"], "version") != "1":
        document.problem(top["version"], "version is to be 1, the only one that is understood here")
    members = memberships(document, top["groups"]) if "groups" in top else {}
    rules: list[Rule] = []
    rules += _rules(document, top, "allow")
    rules += _rules(document, top, "deny")
    document.finish()
    groups = {name: frozenset(each) for name, each in members.items()}
    return Policy(tuple(rules), groups, source)


class PolicyFile:
    def __init__(
        self, path: str, *, interval: float = INTERVAL, clock: Clock = time.monotonic
    ) -> None:
        """Raises Unusable with everything that is wrong in the file."""

        def read(data: bytes) -> Policy:
            try:
                return parse(data, path)
            except Invalid as error:
                raise Unusable(path, list(error.problems)) from None

        self._file = WatchedFile(path, read, what="policy", interval=interval, clock=clock)

    @property
    def policy(self) -> Policy:
        """The last good one; another object after each change."""
        return self._file.content

    @property
    def problem(self) -> str | None:
        """Why the policy in force is not what the file says, for readiness, metrics and the log."""
        return self._file.problem

    def refresh(self) -> None:
        """Read the file again if it has changed. Blocks."""
        self._file.refresh()

    async def refreshed(self) -> None:
        await self._file.refreshed()


def _rules(
    document: Document, top: Mapping[str, yaml.Node], effect: Literal["allow", "deny"]
) -> list[Rule]:
    if effect not in top:
        return []
    node = top[effect]
    if not isinstance(node, yaml.SequenceNode):
        document.problem(node, f"{effect} is to be a list of rules, each beginning with a dash")
        return []
    items = document.items(node, effect) if node.value else []
    found = [_rule(document, item, effect, number) for number, item in enumerate(items, 1)]
    return [rule for rule in found if rule is not None]


def _rule(
    document: Document, node: yaml.Node, effect: Literal["allow", "deny"], number: int
) -> Rule | None:
    what = f"{effect} rule {number}"
    keys = (*_RULE_KEYS, "except") if effect == "deny" else _RULE_KEYS
    if effect == "allow" and isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == "except":
                document.problem(
                    key, f"{what} has 'except', which only deny rules have; name those it is for"
                )
                return None
    before = len(document.problems)
    fields = document.section(node, what, keys, _NEEDED)
    name = document.text(fields["name"], f"the name of {what}") if "name" in fields else None

    def each(key: str, read: Callable[[Document, yaml.Node], object | None]) -> list[object]:
        if key not in fields:
            return []
        items = document.items(fields[key], f"{key} of {what}")
        return [value for item in items if (value := read(document, item)) is not None]

    who = cast(list[Subject], each("who", _subject))
    exceptions = cast(list[Subject], each("except", _subject))
    repositories = cast(list[Pattern], each("repositories", _repositories))
    actions = cast(list[frozenset[str]], each("actions", _actions))
    if len(document.problems) != before:
        return None
    label = f"{what} {name!r} (line {line(node)})" if name else f"{what} (line {line(node)})"
    return Rule(
        effect,
        label,
        tuple(who),
        tuple(repositories),
        frozenset().union(*actions),
        tuple(exceptions),
    )


def _repositories(document: Document, node: yaml.Node) -> Pattern | None:
    text = document.text(node, "a repository")
    if text is None:
        return None
    try:
        return patterns.repositories(text)
    except ValueError as error:
        document.problem(node, f"the repository {shown(text)} {error}")
        return None


def _actions(document: Document, node: yaml.Node) -> frozenset[str] | None:
    text = document.text(node, "an action")
    if text is None:
        return None
    if text == ALL_ACTIONS:
        return frozenset(ACTIONS)
    if text not in ACTIONS:
        known = (*ACTIONS, ALL_ACTIONS)
        document.problem(node, f"{shown(text)} is not an action; {suggestion(text, known)}")
        return None
    return frozenset({text})


def _subject(document: Document, node: yaml.Node) -> Subject | None:
    if isinstance(node, yaml.MappingNode):
        return _written_as_map(document, node)
    text = document.text(node, "a subject")
    if text is None:
        return None
    kind, colon, name = text.partition(":")
    if not colon and text in _WORDS:
        return Subject(cast(Kind, text))
    if colon and kind in _KINDS:
        return _named(document, node, kind, name)
    if not colon and kind in _KINDS:
        document.problem(node, f"{shown(text)} lacks a name; write {kind}:NAME")
        return None
    if colon:
        known = _KINDS
        document.problem(node, f"{shown(kind)} is no kind of subject; {suggestion(kind, known)}")
        return None
    near = suggestion(text, _WORDS)
    document.problem(
        node,
        f"{shown(text)} does not say what it is; write user:{text[:60]} or group:..., or {near}",
    )
    return None


def _written_as_map(document: Document, node: yaml.MappingNode) -> Subject | None:
    """`group: dev` means `group:dev`: the space is too easily written to be held against anybody."""
    entries = document.entries(node, "a subject")
    if len(entries) != 1:
        document.problem(node, "a subject written as a map has one key, such as `oidc:`")
        return None
    kind, (key, value) = next(iter(entries.items()))
    if kind not in _KINDS:
        document.problem(key, f"{shown(kind)} is no kind of subject; {suggestion(kind, _KINDS)}")
        return None
    if kind == "oidc" and isinstance(value, yaml.MappingNode):
        return _with_claims(document, value)
    text = document.text(value, kind)
    return None if text is None else _named(document, value, kind, text)


def _named(document: Document, node: yaml.Node, kind: str, name: str) -> Subject | None:
    if kind == "robot":
        try:
            patterns.text(name)
        except ValueError as error:
            document.problem(node, f"the robot {shown(name)} {error}")
            return None
    elif kind == "group" and is_name(name.replace(":", "")) and not name.startswith("claim:"):
        pass  # a group that an issuer names is written group:ISSUER:NAME
    elif not is_name(name):
        document.problem(node, f"{shown(name)} is no {kind}: {NAME_RULE}")
        return None
    return Subject(cast(Kind, kind), name)


def _with_claims(document: Document, node: yaml.MappingNode) -> Subject | None:
    entries = document.entries(node, "oidc")
    issuer = document.text(entries["issuer"][1], "issuer") if "issuer" in entries else None
    if "issuer" not in entries:
        document.problem(node, "oidc lacks 'issuer', the name of one that is trusted")
    claims: list[tuple[str, Pattern]] = []
    for name, (_, value) in entries.items():
        if name == "issuer":
            continue
        text = document.text(value, f"the claim {shown(name)}")
        if text is None:
            continue
        try:
            claims.append((name, patterns.text(text)))
        except ValueError as error:
            document.problem(value, f"the claim {shown(name)} {error}")
    subject = None if issuer is None else _named(document, entries["issuer"][1], "oidc", issuer)
    return None if subject is None else Subject("oidc", subject.name, tuple(claims))
