"""Reading every blob, and comparing it with its name: what disks lose without saying so.

Slow on purpose, and resumable: shards that are through are noted in the storage, and begin anew when
all are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from registry_gc.fsck.examine import Report
from registry_gc.fsck.findings import Finding, Kind, Summary
from registry_gc.fsck.repair import Repairs
from registry_gc.spill import SHARDS
from registry_gc.verifying import hashed
from storage import layout
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.digest import HEX_LENGTHS, Digest
from storage.model.errors import DigestInvalid

STATE = f"{layout.ROOT}/holdfast/scrubbed"


class Pace:
    """Holds back who reads faster than so many bytes a second; 0 is as fast as it goes."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def read(self, size: int) -> None:
        if self._rate:
            self._due = max(self._due, self._clock() - 1) + size / self._rate
            if (early := self._due - self._clock()) > 0:
                self._sleep(early)


def scrub(
    driver: Driver, repairs: Repairs | None, report: Report, summary: Summary, pace: Pace
) -> None:
    """Goes on where the last one stopped. Raises the driver's errors."""
    for shard in range(_done(driver), SHARDS):
        for algorithm in HEX_LENGTHS:
            for found in driver.leaves(f"{layout.BLOBS}/{algorithm}/{shard:02x}", "data"):
                try:
                    digest = Digest(algorithm, found.name)
                except DigestInvalid:
                    continue
                if not _is_sound(driver, digest, summary, pace):
                    if repairs is not None:
                        repairs.set_aside(digest)
                    finding = Finding(
                        Kind.BLOB_DAMAGED,
                        layout.blob(digest),
                        f"The bytes of {digest} are not what they are called: push it again.",
                        repaired=repairs is not None,
                    )
                    summary.count(finding)
                    report(finding)
        driver.write(STATE, json.dumps({"next": (shard + 1) % SHARDS}).encode())


def _done(driver: Driver) -> int:
    try:
        return int(json.loads(driver.read(STATE))["next"])
    except (ObjectNotFound, ValueError, KeyError, TypeError):
        return 0


def _is_sound(driver: Driver, digest: Digest, summary: Summary, pace: Pace) -> bool:
    try:
        reader = driver.open(layout.blob(digest))
    except ObjectNotFound:
        return True  # gone meanwhile
    try:
        hasher = hashed(reader, digest.algorithm, pace.read)
    finally:
        reader.close()
    summary.scrubbed += 1
    summary.scrubbed_bytes += hasher.length
    return hasher.digest() == digest
