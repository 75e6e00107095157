"""Whether a storage can be read, for a registry that may not write to it."""

from __future__ import annotations

from storage import layout
from storage.driver import Driver, Unavailable


def check_readable(driver: Driver) -> None:
    """Raises Unavailable, also where there is no tree: of what is not mounted nothing is to be served."""
    if next(iter(driver.list(layout.ROOT)), None) is None:
        raise Unavailable(
            f"There is nothing at {layout.ROOT}, and a registry that is read-only makes nothing. Mount "
            "the storage, or let the registry write once (storage.maintenance.readonly)."
        )
