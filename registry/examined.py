"""What an examination found, for the person at the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import click

from storage.examination import Observation, Verdict

_MARKS: Final = {
    Verdict.OK: ("ok", "green"),
    Verdict.WARNING: ("warning", "yellow"),
    Verdict.PROBLEM: ("PROBLEM", "red"),
}


def show(observations: Iterable[Observation]) -> int:
    """Print each as it is found, what to do below it; the exit code: 1 if there is a problem."""
    problems = warnings = 0
    for found in observations:
        word, colour = _MARKS[found.verdict]
        click.echo(f"{click.style(f'{word:8}', fg=colour)} {found.subject}: {found.sentence}")
        if found.remedy:
            click.echo(f"{'':8} -> {found.remedy}")
        problems += found.verdict is Verdict.PROBLEM
        warnings += found.verdict is Verdict.WARNING
    click.echo(
        f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    )
    return 1 if problems else 0
