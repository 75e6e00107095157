"""One line on a terminal that is written over: what is being done, and how much of it is done."""

from __future__ import annotations

import time
from typing import Final

import click

_EVERY: Final = 0.2
"""Seconds."""
_WIDTH: Final = 30


class ProgressLine:
    """Call it as often as you like; nothing is shown unless `show`, which is where somebody looks."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._told = float("-inf")
        self._stage = ""

    def __call__(self, stage: str, count: int, part: float | None = None) -> None:
        """`part`, from 0 to 1, is how much of the stage is done, where that is known."""
        now = time.monotonic()
        if not self._show or (stage == self._stage and now - self._told < _EVERY):
            return
        self._told, self._stage = now, stage
        bar = ""
        if part is not None:
            bar = f"[{'#' * round(part * _WIDTH):<{_WIDTH}}] {part:4.0%}  "
        click.echo(f"\r{bar}{count} {stage}\033[K", nl=False, err=True)

    def clear(self) -> None:
        if self._stage:
            click.echo("\r\033[K", nl=False, err=True)
