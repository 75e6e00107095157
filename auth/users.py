"""A file of users with bcrypt hashes, groups, and a switch to shut one out; read again on change.

Groups may also be given to names whose password is in an htpasswd file:

    users:
      alice:
        password: $2y$10$...        # htpasswd -nB alice
        groups: [dev]
      bob:
        password: $2y$10$...
        disabled: true
    groups:
      ops: [alice]

Both parts may be left out. Groups given in the two places add up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from auth.accounts import NAME_RULE, Account, Passwords, costs_of, is_name, stamp, usable
from auth.documents import Document, Invalid, compose, shown
from auth.watched import INTERVAL, Clock, Unusable, WatchedFile


@dataclass(frozen=True, slots=True)
class Users:
    hashes: Mapping[str, bytes]
    """Those who may log in."""
    disabled: frozenset[str]
    groups: Mapping[str, frozenset[str]]
    """Of each name, the groups it is in."""
    costs: tuple[int, ...]


def memberships(document: Document, node: yaml.Node) -> dict[str, set[str]]:
    """From a map of groups to members: of each name, its groups."""
    found: dict[str, set[str]] = {}
    for group, (key, value) in document.entries(node, "groups").items():
        if not is_name(group):
            document.problem(key, f"{shown(group)} cannot be the name of a group: {NAME_RULE}")
            continue
        for item in document.items(value, f"group {shown(group)}"):
            member = document.text(item, f"a member of {shown(group)}")
            if member is not None and not is_name(member):
                document.problem(item, f"{shown(member)} cannot be a user: {NAME_RULE}")
            elif member is not None:
                found.setdefault(member, set()).add(group)
    return found


def parse(data: bytes) -> Users:
    """Raises Invalid with everything that is wrong."""
    document = compose(data)
    top = document.section(document.root, "the file", ("users", "groups"))
    groups = memberships(document, top["groups"]) if "groups" in top else {}
    hashes: dict[str, bytes] = {}
    disabled: set[str] = set()
    users = document.entries(top["users"], "users") if "users" in top else {}
    for name, (key, node) in users.items():
        if not is_name(name):
            document.problem(key, f"{shown(name)} cannot be a user: {NAME_RULE}")
        what = f"user {shown(name)}"
        fields = document.section(node, what, ("password", "groups", "disabled"), ("password",))
        stored = document.text(fields["password"], "password") if "password" in fields else None
        if stored is not None and not usable(stored.encode()):
            document.problem(
                fields["password"],
                f"the password of {what} is not a bcrypt hash of cost 4 to 16; "
                "make one with `htpasswd -nB NAME`",
            )
        elif stored is not None:
            hashes[name] = stored.encode()
        for item in document.items(fields["groups"], "groups") if "groups" in fields else ():
            group = document.text(item, "a group")
            if group is not None and not is_name(group):
                document.problem(item, f"{shown(group)} cannot be a group: {NAME_RULE}")
            elif group is not None:
                groups.setdefault(name, set()).add(group)
        if "disabled" in fields and document.flag(fields["disabled"], "disabled"):
            disabled.add(name)
    document.finish()
    return Users(
        {name: stored for name, stored in hashes.items() if name not in disabled},
        frozenset(disabled),
        {name: frozenset(each) for name, each in groups.items()},
        costs_of(hashes.values()),
    )


class UsersFile:
    def __init__(
        self,
        path: str,
        passwords: Passwords,
        *,
        interval: float = INTERVAL,
        clock: Clock = time.monotonic,
    ) -> None:
        """Raises Unusable if the file cannot be used."""
        self._passwords = passwords
        self._file = WatchedFile(
            path, _parse_file, what="users file", interval=interval, clock=clock
        )

    async def check(
        self, name: str, password: str, costs: Sequence[int] | None = None
    ) -> Account | None:
        await self.refreshed()
        users = self._file.content
        stored = users.hashes.get(name)
        spread = users.costs if costs is None else costs
        if not await self._passwords.check(name, password, stored, spread) or stored is None:
            return None
        account = await self.find(name)
        return account if account is not None and account.stamp == stamp(stored) else None

    async def remembered(self, name: str, password: str) -> Account | None:
        await self.refreshed()
        stored = self._file.content.hashes.get(name)
        if stored is None or not self._passwords.remembers(name, password, stored):
            return None
        return await self.find(name)

    async def find(self, name: str) -> Account | None:
        await self.refreshed()
        users = self._file.content
        stored = users.hashes.get(name)
        if stored is None:
            return None
        return Account(name, users.groups.get(name, frozenset()), stamp(stored))

    @property
    def costs(self) -> Sequence[int]:
        return self._file.content.costs

    async def refreshed(self) -> None:
        await self._file.refreshed()

    @property
    def version(self) -> object:
        return self._file.loaded

    def disables(self, name: str) -> bool:
        return name in self._file.content.disabled

    def groups_of(self, name: str) -> frozenset[str]:
        return self._file.content.groups.get(name, frozenset())

    @property
    def problem(self) -> str | None:
        return self._file.problem


def _parse_file(data: bytes) -> Users:
    try:
        return parse(data)
    except Invalid as error:
        raise Unusable("", list(error.problems)) from None
