"""Time that passes, for deadlines that must hold on a machine that was suspended."""

from __future__ import annotations

import time


class Clock:
    """Of this machine. Only differences mean anything."""

    def now(self) -> float:
        """Seconds that include those in which the machine slept."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """A second opinion: of a virtual machine that was paused, the other clock may have stood still."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
