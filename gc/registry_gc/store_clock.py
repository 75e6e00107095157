"""The store's clock, by which all ages are counted: no machine's own clock is trusted for them."""

from __future__ import annotations

import uuid

from storage import layout
from storage.driver import Driver


def store_time(driver: Driver) -> float:
    """Seconds since the epoch; some stores tell whole seconds only. Costs three requests."""
    key = layout.clock_probe(uuid.uuid4().hex)
    driver.write(key, b"")
    try:
        return driver.stat(key).modified
    finally:
        driver.delete_many([key])
