"""Times that say something: when a tag was pushed or pulled, and when something was removed."""

from __future__ import annotations

import logging
import os

from storage.driver import Driver

log = logging.getLogger("holdfast.copying")


def keep_time(driver: Driver, key: str, modified: float | None) -> None:
    """Give an object that was just written the time it had elsewhere; an object store has no such thing."""
    path = None if modified is None else driver.local_path(key)
    if path is None or modified is None:
        return
    try:
        os.utime(path, (modified, modified))
    except OSError as error:
        log.warning("%s has the time of its copy, not that of its push: %s", path, error)
