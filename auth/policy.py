"""Who may do what on which repositories: rules that allow, rules that deny, and how they decide.

The order of rules means nothing. What no rule allows is refused; what several rules allow adds up; and
what a deny rule covers is refused whatever allows it. So a rule can be read alone: an allow rule never
takes away, a deny rule never gives, and moving one changes nothing.

A subject is written `user:NAME`, `group:NAME`, `robot:NAME`, `oidc:ISSUER`, or with the claims of a
job's identity token, or is one of `anonymous` (who shows no credentials), `authenticated` (whoever
logged in, by any means) and `everybody` (both). Users are those with a password: a robot or a CI job
that happens to have the same name is not that user.

Each action is separate. A client that pushes also pulls, so who is to push needs both. `catalog` shows
the name of a repository in the list of all; what may be pulled is shown anyhow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from auth.model import Access, Identity
from auth.patterns import EVERYTHING, USER, Pattern, is_repository

PULL: Final = "pull"
PUSH: Final = "push"
DELETE: Final = "delete"
CATALOG: Final = "catalog"
ACTIONS: Final = (PULL, PUSH, DELETE, CATALOG)

EVERYBODY: Final = "everybody"
AUTHENTICATED: Final = "authenticated"
ANONYMOUS: Final = "anonymous"

USER_METHODS: Final = frozenset({"htpasswd", "token", "certificate"})
"""Of Identity.method: those whose bearer is a person by that name."""

ROBOT_PREFIX: Final = "robot:"
"""Of the names of robots, so that none is taken for a user's in a log."""

CLAIM_PREFIX: Final = "claim:"
"""How a claim of a job's token is written among its groups; no group of people has a colon."""

_CACHED: Final = 20_000

Kind = Literal["user", "group", "robot", "oidc", "everybody", "authenticated", "anonymous"]


def claim(issuer: str, name: str, value: str) -> str:
    """The group that stands for a claim which a trusted issuer made."""
    return f"{CLAIM_PREFIX}{issuer}:{name}={value}"


@dataclass(frozen=True, slots=True)
class Subject:
    kind: Kind
    name: str = ""
    """Of a robot this is a pattern; of `oidc` the issuer."""
    claims: tuple[tuple[str, Pattern], ...] = ()
    """All of them must match."""

    def covers(self, identity: Identity, groups: frozenset[str]) -> bool:
        match self.kind:
            case "everybody":
                return True
            case "anonymous":
                return not identity.name
            case "authenticated":
                return bool(identity.name)
            case "user":
                return identity.name == self.name and identity.method in USER_METHODS
            case "group":
                return self.name in groups
            case "robot":
                return identity.method == "robot" and Pattern(ROBOT_PREFIX + self.name).matches(
                    identity.name
                )
            case "oidc":
                return self._issued(identity)

    def _issued(self, identity: Identity) -> bool:
        if identity.method != "oidc" or not identity.name.startswith(self.name + ":"):
            return False
        for name, pattern in self.claims:
            start = claim(self.name, name, "")
            values = (g[len(start) :] for g in identity.groups if g.startswith(start))
            if not any(pattern.matches(value) for value in values):
                return False
        return True

    def __str__(self) -> str:
        claims = ", ".join(f"{name}: {pattern.source}" for name, pattern in self.claims)
        return ":".join(filter(None, (self.kind, self.name))) + (f" ({claims})" if claims else "")


@dataclass(frozen=True, slots=True)
class Rule:
    effect: Literal["allow", "deny"]
    label: str
    """As the operator finds it: `allow rule 2 "dev pushes" (line 14)`."""
    who: tuple[Subject, ...]
    repositories: tuple[Pattern, ...]
    actions: frozenset[str]
    exceptions: tuple[Subject, ...] = ()
    """Of a deny rule: whom it does not concern."""

    def concerns(self, identity: Identity, groups: frozenset[str]) -> bool:
        return any(subject.covers(identity, groups) for subject in self.who) and not any(
            subject.covers(identity, groups) for subject in self.exceptions
        )

    def reaches(self, repository: str, user: str) -> bool:
        return any(pattern.matches(repository, user) for pattern in self.repositories)


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    rule: str
    """The label of the rule that decided, or that no rule allows it."""

    def __bool__(self) -> bool:
        return self.allowed


NO_RULE: Final = "no rule allows it"


@dataclass(slots=True)
class Policy:
    """Used by any number of threads. Its rules never change; a changed file is another policy."""

    rules: tuple[Rule, ...]
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each user, the groups that the policy file gives."""
    source: str = "built in"
    _decisions: dict[tuple[object, ...], Decision] = field(default_factory=dict, repr=False)
    _concerned: dict[tuple[object, ...], tuple[Rule, ...]] = field(default_factory=dict, repr=False)

    def decide(self, identity: Identity, access: Access) -> Decision:
        """Whether all actions are allowed, and the rule for the last, or for the first that is not."""
        decision = Decision(False, NO_RULE)
        for action in access.actions:
            decision = self.one(identity, access.type, access.name, action)
            if not decision.allowed:
                break
        return decision

    def granted(self, identity: Identity, access: Access) -> Access:
        """The same access with those actions that are allowed, in their order."""
        actions = (a for a in access.actions if self.one(identity, access.type, access.name, a))
        return Access(access.type, access.name, tuple(dict.fromkeys(actions)))

    def one(self, identity: Identity, kind: str, name: str, action: str) -> Decision:
        """For one action; `*` is all of them."""
        key = (identity.name, identity.method, identity.groups, kind, name, action)
        known = self._decisions.get(key)
        if known is not None:
            return known
        decision = self._decided(identity, kind, name, action)
        if len(self._decisions) >= _CACHED:
            self._decisions.clear()
        self._decisions[key] = decision
        return decision

    def explain(self, identity: Identity, access: Access) -> list[str]:
        """Sentences for an operator: for each action the answer, and every rule that has a say in it."""
        lines: list[str] = []
        for action in access.actions:
            decision = self.one(identity, access.type, access.name, action)
            answer = "yes" if decision.allowed else "no"
            lines.append(f"{action} on {access.name}: {answer}, {decision.rule}.")
            for rule in self._saying(identity, access.name, action):
                if rule.label != decision.rule:
                    says = "would allow it" if rule.effect == "allow" else "denies it"
                    also = " too" if (rule.effect == "allow") == decision.allowed else ""
                    lines.append(f"  {rule.label} {says}{also}.")
        user = identity.name if identity.method in USER_METHODS else ""
        substituted = any(USER in p.source for r in self.rules for p in r.repositories)
        if user and substituted and not Pattern(USER).matches(user, user):
            lines.append(f"{user} cannot be part of a repository's name, so {USER} never fits it.")
        return lines

    def may_list(self, identity: Identity) -> bool:
        """Whether the list of repositories may be asked for at all; it shows what may be seen.

        Whoever logged in may. Nobody in particular needs a rule that gives them `catalog`.
        """
        if identity.name:
            return True
        rules = self._concerning(identity)
        return any(r.effect == "allow" and CATALOG in r.actions for r in rules)

    def _decided(self, identity: Identity, kind: str, name: str, action: str) -> Decision:
        if kind == "registry":
            return self._listing(identity, name, action)
        if kind != "repository" or not is_repository(name):
            return Decision(False, NO_RULE)
        if action == "*":
            return self.decide(identity, Access(kind, name, (PULL, PUSH, DELETE)))
        if action not in ACTIONS:
            return Decision(False, NO_RULE)
        allowed = NO_RULE
        for rule in self._saying(identity, name, action):
            if rule.effect == "deny":
                return Decision(False, rule.label)
            if allowed is NO_RULE:
                allowed = rule.label
        if action == CATALOG and allowed is NO_RULE:
            return self.one(identity, kind, name, PULL)
        return Decision(allowed is not NO_RULE, allowed)

    def _listing(self, identity: Identity, name: str, action: str) -> Decision:
        """Whether every name may be seen: a rule says so of `**`, and none that concerns them denies."""
        if name != "catalog" or action != "*":
            return Decision(False, NO_RULE)
        allowed = NO_RULE
        for rule in self._concerning(identity):
            if CATALOG not in rule.actions:
                continue
            if rule.effect == "deny":
                return Decision(False, rule.label)
            if any(pattern.source == EVERYTHING for pattern in rule.repositories):
                allowed = rule.label
        return Decision(allowed is not NO_RULE, allowed)

    def _saying(self, identity: Identity, name: str, action: str) -> Sequence[Rule]:
        user = identity.name if identity.method in USER_METHODS else ""
        return [
            rule
            for rule in self._concerning(identity)
            if action in rule.actions and rule.reaches(name, user)
        ]

    def _concerning(self, identity: Identity) -> tuple[Rule, ...]:
        key = (identity.name, identity.method, identity.groups)
        rules = self._concerned.get(key)
        if rules is None:
            groups = identity.groups
            if identity.method in USER_METHODS:
                groups |= self.groups.get(identity.name, frozenset())
            rules = tuple(rule for rule in self.rules if rule.concerns(identity, groups))
            if len(self._concerned) >= _CACHED:
                self._concerned.clear()
            self._concerned[key] = rules
        return rules


def everything(*, anonymous_pull: bool = False) -> Policy:
    """Without a policy file: whoever logged in may do everything, as in Distribution."""
    all_of_it = (Pattern(EVERYTHING),)
    rules = [
        Rule(
            "allow",
            "every user may do everything (there is no policy)",
            (Subject("authenticated"),),
            all_of_it,
            frozenset(ACTIONS),
        )
    ]
    if anonymous_pull:
        rules.append(
            Rule(
                "allow",
                "anonymous pull",
                (Subject("anonymous"),),
                all_of_it,
                frozenset({PULL}),
            )
        )
    return Policy(tuple(rules))


def world_readable(policy: Policy) -> bool:
    """Whether everybody may pull from every repository: rules say so, and none denies pull."""
    readers: set[str] = set()
    for rule in policy.rules:
        if PULL not in rule.actions:
            continue
        if rule.effect == "deny":
            return False
        if any(pattern.source == EVERYTHING for pattern in rule.repositories):
            readers.update(subject.kind for subject in rule.who)
    return EVERYBODY in readers or {AUTHENTICATED, ANONYMOUS} <= readers
