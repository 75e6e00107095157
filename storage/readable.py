"""Whether a storage is one of a registry, for those who only read it, or would rather not begin another."""

from __future__ import annotations

from storage import layout
from storage.driver import Driver
from storage.driver_errors import Unavailable


def check_readable(driver: Driver) -> None:
    """Raises Unavailable, also where there is no tree: of what is not mounted nothing is to be served."""
    if next(iter(driver.list(layout.ROOT)), None) is None:
        raise Unavailable(
            f"There is nothing at {layout.ROOT}. Either the storage is not mounted, or this is the wrong "
            "root directory or bucket, or no registry that may write has ever used it."
        )
