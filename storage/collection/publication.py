"""What a run of the collector tells the nodes: never overwritten, the highest number of a run counts.

A new object for every state, because a write that timed out may land long after a newer one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from storage import layout
from storage.driver import Driver

_NAME = re.compile(r"(?P<run>[0-9A-Za-z]+(?:-[0-9A-Za-z]+)*)-(?P<sequence>[0-9]{6,})", re.ASCII)


class Unreadable(Exception):
    """A publication that this version does not understand."""


@dataclass(frozen=True, slots=True)
class Publication:
    run: str
    sequence: int
    filters: tuple[str, ...] = ()
    """Keys of Bloom filters; together they hold every condemned entry."""
    lists: tuple[str, ...] = ()
    """Keys of lists of the same entries, with the time each was first condemned."""
    doomed: tuple[str, ...] = ()
    """Entries that may vanish at any moment."""
    idle: bool = False
    """The run has ended: what it condemned stays condemned, for the next run to take over."""
    look: str = ""
    """Key of what an unfinished look at the storage has found, for the next run to go on with."""

    @property
    def key(self) -> str:
        return layout.publication(self.run, self.sequence)

    def encode(self) -> bytes:
        value = {
            "version": 1,
            "filters": self.filters,
            "lists": self.lists,
            "doomed": self.doomed,
            "idle": self.idle,
            "look": self.look,
        }
        return json.dumps(value, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Name:
    run: str
    sequence: int

    @property
    def key(self) -> str:
        return layout.publication(self.run, self.sequence)


def decode(name: Name, content: bytes) -> Publication:
    """Raises Unreadable."""
    try:
        value: dict[str, Any] = json.loads(content)
        if value["version"] != 1:
            raise Unreadable(f"{name.key} has version {value['version']}")
        return Publication(
            name.run,
            name.sequence,
            tuple(map(str, value["filters"])),
            tuple(map(str, value["lists"])),
            tuple(map(str, value["doomed"])),
            bool(value["idle"]),
            str(value.get("look", "")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{name.key}: {error}") from error


def listed(driver: Driver) -> list[Name]:
    """Every publication that is there."""
    return [name for child in driver.list(layout.PUBLICATIONS) if (name := parse_name(child.name))]


def parse_name(text: str) -> Name | None:
    match = _NAME.fullmatch(text)
    return Name(match["run"], int(match["sequence"])) if match else None


def newest(names: Iterable[Name]) -> dict[str, Name]:
    """Of each run the one that counts."""
    top: dict[str, Name] = {}
    for name in names:
        if name.run not in top or name.sequence > top[name.run].sequence:
            top[name.run] = name
    return top
