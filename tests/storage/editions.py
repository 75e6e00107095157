"""Waiting until a directory's last change can be told from its next."""

from __future__ import annotations

import time

from storage.driver import Driver

_PATIENCE = 30.0


def settled(driver: Driver, prefix: str) -> object:
    """The edition of what is below `prefix`, once there is one."""
    deadline = time.monotonic() + _PATIENCE
    while (edition := driver.edition(prefix)) is None:
        assert time.monotonic() < deadline, f"{prefix} has no edition after {_PATIENCE} s"
        time.sleep(0.01)
    return edition
