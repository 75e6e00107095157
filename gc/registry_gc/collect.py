"""One run of the collector, from taking over what the last one left to leaving the same behind.

    adopt     take over what earlier runs condemned, tell the nodes, wait until they know
    mark      look at the whole tree
    confirm   what is condemned and needed again is let go
    condemn   what is not needed, and old enough, is condemned; the nodes are told
    sweep     what was confirmed, and condemned long ago, is removed
    tidy      uploads that nobody goes on with, old notes, old trash

It can be killed anywhere: the next run goes on from what is published.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from registry_gc import adoption, brakes
from registry_gc.brakes import Condemning
from registry_gc.housekeeping import empty_trash, tidy
from registry_gc.judging import Judge
from registry_gc.ledger import Condemned, Ledger
from registry_gc.mark import Mark, shards
from registry_gc.options import Options
from registry_gc.outcome import Busy, CollectionStopped, OutOfTime
from registry_gc.publishing import Publisher, new_run
from registry_gc.references import ReferenceReader
from registry_gc.report import Report
from registry_gc.retention import applying as retention
from registry_gc.store_clock import store_time
from registry_gc.sweep import Due, Sweep, keep_notes
from storage.driver import Driver, DriverError

log = logging.getLogger("holdfast.collection")

LOCAL_THREADS = 4


def collect(driver: Driver, options: Options, report: Report | None = None) -> Report:
    """Raises CollectionStopped or DriverError; `report` then has what was done until then."""
    report = Report() if report is None else report
    if options.offline:
        nobody = replace(options.timing, view=0.0, section=0.0, lag=0.0)
        options = replace(options, timing=nobody, undo=0.0)
    begun = options.clock.now()
    report.dry_run = options.dry_run
    try:
        with (
            tempfile.TemporaryDirectory(prefix="registry-gc-") as directory,
            ThreadPoolExecutor(
                options.threads if driver.remote else LOCAL_THREADS, thread_name_prefix="gc"
            ) as pool,
        ):
            run = _Run(driver, options, report, pool, Path(directory), begun)
            if options.dry_run:
                run.rehearse()
            else:
                run.perform()
    finally:
        report.seconds = options.clock.now() - begun
    return report


class _Run:
    def __init__(
        self,
        driver: Driver,
        options: Options,
        report: Report,
        pool: ThreadPoolExecutor,
        directory: Path,
        begun: float,
    ) -> None:
        self._driver = driver
        self._options = options
        self._report = report
        self._pool = pool
        self._directory = directory
        self._deadline = begun + options.max_duration
        self._told = begun
        self._generation = 0
        self._oldest = float("inf")
        self._publisher = Publisher(driver, new_run())
        self._sweep = Sweep(driver, self._publisher, options, pool, report)

    def rehearse(self) -> None:
        """Count what a run would do. Writes nothing."""
        judged = retention.judge(self._driver, self._options.retention, self._pool, time.time())
        self._report.tags_removed = sum(len(each.removed) for each in judged)
        others = adoption.look_only(self._driver)
        mark, judge = self._mark(time.time(), others.lists)
        for shard, garbage in shards(mark):
            judge.shard(shard, garbage)
        self._check(mark)

    def perform(self) -> None:
        others = adoption.look(self._driver, self._options.timing)
        if others.active and self._options.alone:
            raise Busy(
                f"Another run, {others.active[0]}, is at work, or died a few minutes ago. Nothing was "
                "done; give --wait to wait for it, or come back later."
            )
        if self._options.trash <= 0:
            # First, because a store that is full has no room for what a run writes either.
            empty_trash(self._driver, float("inf"))
        self._report.run = self._publisher.run
        adoption.fence(self._driver, others)
        self._driver.begin_discards(self._publisher.run)  # before anybody can know of this run
        try:
            self._take_over(others)
            self._report.tags_removed = retention.apply(
                self._driver,
                self._options.retention,
                self._pool,
                store_time(self._driver),
                run=self._publisher.run,
                force=self._options.force,
            )
            for number in range(2 if self._options.again else 1):
                self._sweep.wait()
                self._pass(last=number == self._options.again)
        except BaseException:  # however a run ends, the next one need not wait for it
            self._hand_over()
            raise
        oldest = min(self._oldest, store_time(self._driver))
        tidy(self._driver, self._options, self._publisher.run, oldest, self._report)
        self._publisher.publish(idle=True)

    def _take_over(self, others: adoption.Others) -> None:
        ledger = self._ledger()
        adoption.merge(self._driver, others, ledger)
        self._publish(ledger)
        adoption.retire(self._driver, others)

    def _pass(self, *, last: bool) -> None:
        now = store_time(self._driver)
        mark, judge = self._mark(now, self._publisher.current.lists)
        ledger = self._ledger()
        path = self._directory / f"due-{self._generation}"
        with path.open("w", encoding="utf-8") as file:
            for shard, garbage in shards(mark):
                verdicts = judge.shard(shard, garbage)
                ledger.add(shard, verdicts.condemned)
                file.writelines(due.encode() + "\n" for due in verdicts.due)
        self._check(mark)
        ledger.close()
        self._publish(ledger)
        self._oldest = ledger.oldest
        with path.open(encoding="utf-8") as file:
            due = (Due.decode(line.rstrip("\n")) for line in file)
            self._sweep.run(self._in_time(due))
        if last:
            brakes.remember(self._driver, mark.totals.blobs - self._report.blobs_removed)

    def _mark(self, now: float, lists: Sequence[str]) -> tuple[Mark, Judge]:
        """`now` is by the store's clock, and before the mark begins."""
        options, report = self._options, self._report
        references = ReferenceReader(
            self._driver, self._pool, options.ignore, save=not options.dry_run
        )
        untagged = options.untagged
        mark = Mark(
            self._driver,
            references,
            self._pool,
            self._directory,
            spill=options.spill,
            expected=brakes.last_blobs(self._driver),
            untagged_before=None if untagged is None else now - max(untagged, options.minimum_age),
            links=not options.dry_run,
            beat=self._beat,
        )
        report.totals = mark.totals
        report.forget_judgement()
        mark.run()
        report.manifests_fetched += references.fetched
        condemned = Condemned(self._driver, lists)
        notes = keep_notes(self._driver)
        return mark, Judge(condemned, notes, now, options, report, mark.needs)

    def _check(self, mark: Mark) -> None:
        """Raises Braked."""
        report = self._report
        if not self._options.force:
            condemning = Condemning(
                report.condemned_blobs, report.condemned_bytes, report.condemned_manifests
            )
            brakes.check(self._driver, mark.totals, condemning, self._options.share)

    def _ledger(self) -> Ledger:
        self._generation += 1
        return Ledger(self._driver, self._publisher.run, self._generation)

    def _publish(self, ledger: Ledger) -> None:
        old = self._publisher.current
        self._publisher.publish(filters=ledger.filters, lists=ledger.lists)
        self._driver.delete_many([*old.lists, *old.filters])
        self._told = self._options.clock.now()

    def _beat(self, stage: str, count: int, part: float | None) -> None:
        """Raises OutOfTime. Tells other runs now and then that this one is alive."""
        now = self._options.clock.now()
        self._options.progress(stage, count, part)
        if now > self._deadline:
            raise OutOfTime(
                "The time given by --max-duration is over. What was done is kept, nothing is lost, and "
                "the next run goes on."
            )
        if not self._options.dry_run and now - self._told > self._options.timing.stale / 2:
            self._publisher.publish()
            self._told = now

    def _in_time(self, due: Iterator[Due]) -> Iterator[Due]:
        """Ends early rather than raise: what a chunk has of them can be removed."""
        for each in due:
            if self._options.clock.now() > self._deadline:
                self._report.stopped = (
                    "The time given by --max-duration is over; the next run goes on."
                )
                return
            yield each

    def _hand_over(self) -> None:
        """So that the next run need not wait. Not while a removal may yet take effect."""
        if self._sweep.removing:
            return
        try:
            self._publisher.publish(idle=True)
        except (DriverError, CollectionStopped) as error:
            log.warning("the next run will wait a few minutes for this one: %s", error)
