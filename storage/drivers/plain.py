"""The slow way to what a driver may know a faster one to."""

from __future__ import annotations

from collections.abc import Iterator

from storage.driver import Driver, ObjectInfo


def any_listed(driver: Driver, prefix: str) -> bool:
    """For drivers that know no faster way to has_children()."""
    return next(iter(driver.list(prefix)), None) is not None


def leaves_by_walking(driver: Driver, prefix: str, leaf: str) -> Iterator[ObjectInfo]:
    """For drivers whose walk() is as fast as it gets."""
    depth = prefix.count("/") + 2
    return (
        info
        for info in driver.walk(prefix)
        if info.key.count("/") == depth and info.key.endswith(f"/{leaf}")
    )
