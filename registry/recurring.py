"""The collector where there is neither cron nor a timer, as in a container: one run after the other."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

import click

from registry.collecting import BUSY, DONE, INTERRUPTED, TERMINATED
from registry.config.durations import format_duration

SHORTEST: Final = 1.0
_SPREAD: Final = 0.05
"""Of the interval: machines that were started together do not stay together."""


def run_every(interval: float, once: Callable[[], int]) -> NoReturn:
    """Run at once, and then every `interval` seconds, however a run ends. A signal ends it."""
    while True:
        began = time.monotonic()
        try:
            code = once()
        except SystemExit as end:  # it has said why
            code = end.code if isinstance(end.code, int) else 1
        if code in (INTERRUPTED, TERMINATED):
            sys.exit(code)
        due = began + interval * random.uniform(1 - _SPREAD, 1 + _SPREAD)
        pause = max(0.0, due - time.monotonic())
        if code not in (DONE, BUSY):
            click.echo(
                f"That run ended with {code}; the next begins in {format_duration(round(pause))}.",
                err=True,
            )
        time.sleep(pause)
