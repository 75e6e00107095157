"""What was found out about a storage, in sentences for its operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    OK = "ok"
    WARNING = "warning"
    """It works, but slower, at more cost, or with less safety."""
    PROBLEM = "problem"
    """Pushes or pulls fail, or will."""


@dataclass(frozen=True, slots=True)
class Observation:
    subject: str
    """What was tried: a word or two."""
    verdict: Verdict
    sentence: str
    remedy: str = ""
    """What to do about it; empty if it is well."""


def well(subject: str, sentence: str) -> Observation:
    return Observation(subject, Verdict.OK, sentence)


def warning(subject: str, sentence: str, remedy: str) -> Observation:
    return Observation(subject, Verdict.WARNING, sentence, remedy)


def problem(subject: str, sentence: str, remedy: str) -> Observation:
    return Observation(subject, Verdict.PROBLEM, sentence, remedy)
