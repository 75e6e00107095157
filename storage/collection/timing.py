"""The durations on which the safety of collecting rests. All nodes and runs of a storage use the same.

Only durations are ever compared, each by the clock of one machine or of the store: never the clocks of
two machines.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    view: float = 20.0
    """A push relies on a view of the collector's state that is no older."""
    section: float = 20.0
    """A push that has not written its last link so long after that is not acknowledged."""
    lag: float = 5.0
    """After this, what was written is seen by whoever lists: the time an NFS client believes its memory."""
    send: float = 30.0
    """So long a run may take to remove what it announced."""
    margin: float = 20.0
    """A run that was suspended for longer than this while it waited announces anew."""
    drift: float = 0.1
    """By what part the clock of a machine may go too fast or too slowly."""

    @property
    def wait(self) -> float:
        """After this, every push that has not seen a publication has ended, and its links are seen."""
        return (self.view + self.section) * (1 + self.drift) + self.lag

    @property
    def void(self) -> float:
        """So long after the announcement, by the store's clock, no removal of it takes effect any more."""
        return self.wait + self.margin + self.send

    @property
    def stale(self) -> float:
        """An announcement that stood for so long by anybody's clock is void."""
        return self.void * (1 + self.drift) ** 2 + 5
