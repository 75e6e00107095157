"""What a run clears away beside garbage: things that are of no use to anybody because of their age."""

from __future__ import annotations

import logging
from calendar import timegm
from time import strptime

from registry_gc.options import DAY, Options
from registry_gc.report import Report
from registry_gc.store_clock import store_time
from registry_gc.sweep import RESOLUTION
from storage import layout
from storage.collection import journal
from storage.driver import Driver
from storage.model.errors import RegistryError
from storage.purge import purge

log = logging.getLogger("holdfast.collection")

MARKERS_KEPT = 30 * DAY


def tidy(driver: Driver, options: Options, run: str, oldest: float, report: Report) -> None:
    """`oldest`: when the first of what is condemned now was condemned, by the store's clock."""
    now = store_time(driver)
    try:
        report.uploads_removed += purge(driver, age=options.uploads, now=lambda: now).removed
    except RegistryError as error:
        log.warning("uploads that nobody goes on with stay for now: %s", error.__cause__ or error)
    _forget_notes(driver, oldest)
    journal.forget(driver, now - options.minimum_age - options.undo - options.trash - DAY)
    _forget_runs(driver, now - MARKERS_KEPT)
    driver.end_discards(run)
    empty_trash(driver, now - options.trash)


def _forget_runs(driver: Driver, before: float) -> None:
    """That were taken over so long ago, with what a run that died left of one before it."""
    old = [info.key for info in driver.walk(layout.FENCED) if info.modified < before]
    for key in old:
        driver.delete_tree(layout.run_directory(key.rpartition("/")[2]))
    driver.delete_many(old)


def _forget_notes(driver: Driver, oldest: float) -> None:
    """A note saves what was condemned before it; one that is older than all of that saves nothing."""
    before = oldest - RESOLUTION - DAY
    old = [info.key for info in driver.walk(layout.KEPT) if info.modified < before]
    driver.delete_many(old)
    for key in old:
        driver.prune(key.rpartition("/")[0])


def empty_trash(driver: Driver, before: float) -> None:
    """Forget for good what runs that began before have removed."""
    for child in driver.list(layout.TRASH):
        run = child.name.partition(".")[0]
        try:
            begun = timegm(strptime(run.partition("-")[0], "%Y%m%dT%H%M%SZ"))
        except ValueError:
            log.warning("%s/%s is nothing of the collector's and stays", layout.TRASH, child.name)
            continue
        if begun <= before:
            driver.forget_discards(run)
            driver.delete_tree(f"{layout.TRASH}/{child.name}")
