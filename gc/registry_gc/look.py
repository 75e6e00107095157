"""What one look at the whole storage has found so far.

    surveyed     every repository, in the order of names: what is needed, which links there are
    judged       every shard of blobs, in order: what is condemned, and what of that may go
    published    what may go is being removed

It is in temporary files once it is large, and can be kept in the storage for another run at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from registry_gc.spill import SHARDS, Spill


@dataclass(slots=True)
class Totals:
    repositories: int = 0
    manifests: int = 0
    dangling: int = 0
    """Revision links whose manifest is not there."""
    tags: int = 0
    blobs: int = 0
    bytes: int = 0
    live_blobs: int = 0
    live_bytes: int = 0
    unique: dict[str, int] = field(default_factory=dict)
    """Bytes that only this repository needs, by its name."""
    shared: dict[str, int] = field(default_factory=dict)
    """Bytes that it needs together with others."""

    def copy(self) -> Totals:
        return replace(self, unique=dict(self.unique), shared=dict(self.shared))


class Look:
    def __init__(self, directory: Path, spill: int, begun: float) -> None:
        """`spill`: lines of each kind in memory. `begun`: by the store's clock, before it saw anything."""
        self.begun = begun
        self.names: list[str] = []
        """Of the repositories that were surveyed; lines name them by their number."""
        self.needed = Spill(directory, spill)
        self.links = Spill(directory, spill)
        self.manifests = Spill(directory, spill)
        self.condemned = Spill(directory, spill)
        self.due = Spill(directory, spill)
        self.after = ""
        """The last repository that was surveyed."""
        self.surveyed = False
        self.shard = 0
        """The first that is not judged."""
        self.published = False
        self.removed = 0
        """Of what is due, what was dealt with."""
        self.totals = Totals()
        self.settled: tuple[Totals, dict[str, int]] = (self.totals, {})
        """What was counted, without the shard that is being judged; the latter as Report.judgement()."""

    def settle(self, judgement: dict[str, int]) -> None:
        """When all repositories are surveyed, and after each shard."""
        self.settled = (self.totals.copy(), judgement)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing in it that a new look would not do as well."""
        return next(self.pending(), None) is None if self.published else not self.names

    def condemned_in(self, shard: int) -> dict[str, float]:
        """Entries, and since when each is condemned."""
        lines = (line.rpartition(" ") for line in self.condemned.lines(shard))
        return {entry: float(since) for entry, _, since in lines}

    def pending(self) -> Iterator[str]:
        """What is due and was not dealt with, encoded, in the order of shards."""
        lines = (line for shard in range(SHARDS) for line in self.due.lines(shard))
        return islice(lines, self.removed, None)
