"""What is told to whoever keeps the record: log-ins, tokens and refusals, and by which rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from auth.model import Access


class What(Enum):
    LOGIN = "login"
    """Credentials were accepted. Once for each time they are checked, not for each request."""
    LOGIN_FAILED = "login_failed"
    THROTTLED = "throttled"
    TOKEN_ISSUED = "token_issued"  # noqa: S105  # the name of an event
    DENIED = "denied"
    """Somebody who was recognised asked for more than a rule gives."""


@dataclass(frozen=True, slots=True)
class Event:
    what: What
    who: str
    """The name that was recognised, or else the one that was claimed: then it is the client's text."""
    method: str
    client: str
    access: tuple[Access, ...] = ()
    rule: str = ""
    """What decided, as the operator wrote it."""
    detail: str = ""
    """A sentence for the log. Never a secret."""


class Audit(Protocol):
    def __call__(self, event: Event, /) -> None:
        """Never raises and never waits; may be called from any thread."""


def unheard(event: Event) -> None:
    """The audit of whoever keeps none."""
    del event


def describe(accesses: Sequence[Access]) -> str:
    """In the form of a scope: `repository:team/app:pull,push`, separated by spaces."""
    return " ".join(f"{a.type}:{a.name}:{','.join(a.actions)}" for a in accesses)
