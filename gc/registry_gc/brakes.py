"""Signs that a run is about to do what nobody wants. Each can be overruled with --force, knowingly."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from registry_gc.look import Totals
from registry_gc.outcome import Braked
from storage import layout
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound

log = logging.getLogger("holdfast.collection")

FEW = 50
"""Below this many blobs shares mean nothing: one image is a third of a small registry."""


@dataclass(frozen=True, slots=True)
class Condemning:
    blobs: int
    bytes: int
    manifests: int


def check(driver: Driver, totals: Totals, condemning: Condemning, share: float) -> None:
    """Raises Braked. `condemning` is what this run adds."""
    if totals.blobs and not totals.manifests:
        raise Braked(
            f"There are {totals.blobs} blobs and not one manifest that needs them, as if the "
            "repositories were not there. Nothing was condemned. Look whether this is the right root "
            "directory or bucket, and wholly mounted; if all of it is to go, give --force."
        )
    last = last_blobs(driver)
    if last >= FEW and totals.blobs < last / 2:
        raise Braked(
            f"There are {totals.blobs} blobs, and after the last run there were {last}: more than half "
            "is gone without a collection. Nothing was condemned. Look for what removed them; if that "
            "was meant, give --force."
        )
    if totals.blobs < FEW:
        return
    for part, whole, what in (
        (condemning.blobs, totals.blobs, "blobs"),
        (condemning.bytes, totals.bytes, "bytes"),
        (condemning.manifests, totals.manifests, "manifests"),
    ):
        if whole and part > whole * share:
            raise Braked(
                f"This run would condemn {part} of {whole} {what}, more than {share:.0%}. Nothing was "
                "condemned. Look at what goes with --dry-run, and at the retention rules; if that is "
                "meant, give --force."
            )


def remember(driver: Driver, blobs: int) -> None:
    """How many blobs a run leaves behind."""
    driver.write(layout.LAST_RUN, json.dumps({"blobs": blobs}).encode())


def last_blobs(driver: Driver) -> int:
    """How many the last run left behind; 0 if that is not known."""
    try:
        return int(json.loads(driver.read(layout.LAST_RUN))["blobs"])
    except ObjectNotFound:
        return 0
    except (ValueError, KeyError, TypeError) as error:
        log.warning("what the last run counted cannot be read, and is not compared with: %s", error)
        return 0
