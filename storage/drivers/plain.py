"""The slow way to what a driver may know a faster one to."""

from __future__ import annotations

from storage.driver import Driver, Leaf


def any_listed(driver: Driver, prefix: str) -> bool:
    """For drivers that know no faster way to has_children()."""
    return next(iter(driver.list(prefix)), None) is not None


def leaves_by_walking(driver: Driver, prefix: str, leaf: str) -> list[Leaf]:
    """For drivers whose walk() is as fast as it gets."""
    depth = prefix.count("/") + 2
    return [
        Leaf(info.key.split("/")[-2], info.size, info.modified)
        for info in driver.walk(prefix)
        if info.key.count("/") == depth and info.key.endswith(f"/{leaf}")
    ]
