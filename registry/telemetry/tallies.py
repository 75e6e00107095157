"""Plain numbers: what a process has counted and not yet shown to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

REQUEST_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Seconds; each is the longest duration that its bucket takes, and one more takes what is longer."""

DRIVER_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


class Tally:
    """One series: how many took how long, and the bytes they moved. Each is in exactly one bucket."""

    __slots__ = ("buckets", "handed_over", "received", "seconds", "sent")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.buckets = [0] * (len(bounds) + 1)
        self.seconds = 0.0
        self.received = 0
        self.sent = 0
        self.handed_over = 0

    @property
    def count(self) -> int:
        return sum(self.buckets)


class Counted:
    """All series of a process, by their labels."""

    __slots__ = ("audited", "cache", "operations", "requests")

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], Tally] = {}
        """By route, method and status."""
        self.operations: dict[tuple[str, str, str], Tally] = {}
        """By driver, operation and result."""
        self.cache: dict[tuple[str, bool], int] = {}
        """By the cache's name and whether it knew."""
        self.audited: dict[str, int] = {}
        """By the name of the event."""
