"""The slow way to what a driver may know a faster one to."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from storage.driver import Driver, Leaf
from storage.driver_errors import ObjectNotFound


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


def names_by_listing(driver: Driver, prefix: str) -> list[str]:
    """For drivers that know no faster way to names()."""
    return [child.name for child in driver.list(prefix)]


def read_each_leaf(
    driver: Driver, prefix: str, names: Sequence[str], leaf: str, *, length: int
) -> dict[str, bytes]:
    """For drivers that know no faster way to read_leaves()."""
    found = {}
    for name in names:
        with contextlib.suppress(ObjectNotFound):
            found[name] = driver.read(f"{prefix}/{name}/{leaf}", length=length)
    return found
