"""Whether a storage keeps what collecting beside pushes rests on; tried out, not believed.

what was written is seen at once by whoever reads, asks or lists
what was deleted is gone at once
a removal that comes too late does nothing
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from registry_gc.outcome import StoreUnfit
from registry_gc.store_clock import store_time
from storage import layout
from storage.collection.clock import Clock
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound, Void

_PASSED = f"{layout.COLLECTION}/store-checked"
_VERSION = b"1"
_LATE = 3.5
"""Seconds after which a removal that was good for one must be refused, however a store rounds."""


def require_checked(driver: Driver, clock: Clock) -> None:
    """Check unless that was done before. Raises StoreUnfit, the driver's errors."""
    try:
        if driver.read(_PASSED) == _VERSION:
            return
    except ObjectNotFound:
        pass
    check_store(driver, clock)


def check_store(driver: Driver, clock: Clock) -> None:
    """Takes some seconds, leaves nothing but the note that it was passed. Raises as above."""
    prefix = f"{layout.COLLECTION}/check-{secrets.token_hex(8)}"
    try:
        _visibility(driver, prefix)
        _discards(driver, prefix, clock)
    finally:
        driver.delete_tree(prefix)
    driver.write(_PASSED, _VERSION)


def _visibility(driver: Driver, prefix: str) -> None:
    for number in range(10):
        key, name = f"{prefix}/{number}/data", str(number)
        driver.write(key, b"old")
        _require(driver.stat(key).size == 3, "does not show at once what was written")
        _require(_lists(driver, prefix, name), "does not list at once what was written")
        driver.write(key, b"newer")
        _require(driver.read(key) == b"newer", "still reads what was replaced")
        driver.delete_many([key])
        _require(not _exists(driver, key), "still shows what was deleted")
        walked = [info.key for info in driver.walk(prefix)]
        _require(key not in walked, "still lists what was deleted")


def _discards(driver: Driver, prefix: str, clock: Clock) -> None:
    good, late = f"{prefix}/good/data", f"{prefix}/late/data"
    for key in (good, late):
        driver.write(key, b"x")
    first, second = (f"check-{secrets.token_hex(8)}" for _ in range(2))
    for batch in (first, second):
        driver.begin_discards(batch)
    try:
        driver.discarder(first, since=store_time(driver), lifetime=60).discard(good)
        _require(
            not _exists(driver, good), "does not carry out a removal that is good for a minute"
        )
        discarder = driver.discarder(second, since=store_time(driver), lifetime=1)
        if driver.discards_expire:
            clock.sleep(_LATE)
        driver.end_discards(second)
        _require(_refuses(lambda: discarder.discard(late)), "carries out a removal that is over")
        _require(_exists(driver, late), "carries out a removal that is over")
    finally:
        for batch in (first, second):
            driver.forget_discards(batch)


def _refuses(discard: Callable[[], bool]) -> bool:
    try:
        discard()
    except Void:
        return True
    return False


def _exists(driver: Driver, key: str) -> bool:
    try:
        driver.stat(key)
    except ObjectNotFound:
        return False
    return True


def _lists(driver: Driver, prefix: str, name: str) -> bool:
    return any(child.name == name for child in driver.list(prefix))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StoreUnfit(
            f"This storage {otherwise}. Garbage cannot be collected on it beside pushes; stop the "
            "registry and run with --offline, or use a storage that is strongly consistent."
        )
