"""What a run is told: by its command line, and by the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from registry_gc.retention.policy import Policy
from storage.collection.clock import Clock
from storage.collection.timing import Timing
from storage.model.digest import Digest

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Options:
    """Durations in seconds."""

    minimum_age: float = DAY
    """What was written since is never condemned."""
    undo: float = 7 * DAY
    """So long after it was condemned does content stay, and can removed tags and manifests be restored."""
    untagged: float | None = None
    """Manifests that no tag reaches go at this age; None keeps them for ever."""
    retention: Policy = field(default_factory=Policy)
    """By which tags go, before anything else is looked at."""
    uploads: float = 7 * DAY
    """Uploads that got no byte for so long are removed."""
    trash: float = DAY
    """So long does a filesystem keep what was removed."""
    ignore: frozenset[Digest] = frozenset()
    """Manifests that cannot be read, and are known to refer to nothing that is wanted."""
    share: float = 0.3
    """Of all blobs or bytes, what one run may condemn without `force`."""
    force: bool = False
    dry_run: bool = False
    offline: bool = False
    """Nobody writes to the storage: remove at once, in one pass."""
    alone: bool = True
    """Do nothing while another run is at work. Two at once are safe, and of no use."""
    again: bool = False
    """After the first pass make a second, which confirms and removes what the first condemned."""
    max_duration: float = float("inf")
    chunk: int = 10_000
    """Entries that are removed together, while pushes of them wait."""
    threads: int = 32
    """Requests at once, where storage is remote."""
    spill: int = 100_000
    """Lines held in memory before they go to temporary files."""
    timing: Timing = field(default_factory=Timing)
    clock: Clock = field(default_factory=Clock)
    progress: Callable[[str, int, float | None], None] = lambda _stage, _count, _part: None
    """Told now and then what is being done, how many things of it are done, and what part of all."""
