"""One run of the collector, from taking over what the last one left to leaving the same behind.

    adopt     take over what earlier runs condemned, tell the nodes, wait until they know
    mark      look at the whole tree
    confirm   what is condemned and needed again is let go
    condemn   what is not needed, and old enough, is condemned; the nodes are told
    sweep     what was confirmed, and condemned long ago, is removed
    tidy      uploads that nobody goes on with, old notes, old trash

It can be killed anywhere: the next run goes on from what is published. A run that is stopped, by its time,
by a signal or by an error, keeps what its look has found, and the next one goes on with that.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from registry_gc import adoption, brakes, saved_look
from registry_gc.brakes import Condemning
from registry_gc.housekeeping import empty_trash, tidy
from registry_gc.judging import Judge
from registry_gc.ledger import Condemned, Ledger
from registry_gc.look import Look
from registry_gc.mark import Mark, shards
from registry_gc.options import Options
from registry_gc.outcome import Braked, Busy, CollectionStopped, OutOfTime
from registry_gc.publishing import Publisher, new_run
from registry_gc.references import ReferenceReader
from registry_gc.report import Report
from registry_gc.retention import applying as retention
from registry_gc.saved_look import Head
from registry_gc.spill import SHARDS
from registry_gc.store_clock import store_time
from registry_gc.sweep import Due, Sweep, keep_notes
from storage import layout
from storage.driver import Driver
from storage.driver_errors import DriverError

log = logging.getLogger("holdfast.collection")

LOCAL_THREADS = 4
OVER = (
    "The time given by --max-duration is over. What was done is kept, nothing is lost, and the next run "
    "goes on."
)


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
        self._beats = 0
        self._look: Look | None = None
        self._generation = 0
        self._oldest = float("inf")
        self._publisher = Publisher(driver, new_run())
        self._sweep = Sweep(driver, self._publisher, options, pool, report)

    def rehearse(self) -> None:
        """Count what a run would do. Writes nothing."""
        judged = retention.judge(self._driver, self._options.retention, self._pool, time.time())
        self._report.tags_removed = sum(len(each.removed) for each in judged)
        others = adoption.look_only(self._driver)
        now = time.time()
        look = self._new_look(now)
        mark, judge = self._mark(look, now, others.lists)
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
        saved = saved_look.find(self._driver, others, self._options)
        adoption.fence(self._driver, others)
        self._driver.begin_discards(self._publisher.run)  # before anybody can know of this run
        try:
            self._take_over(others, saved)
            self._report.tags_removed = retention.apply(
                self._driver,
                self._options.retention,
                self._pool,
                store_time(self._driver),
                run=self._publisher.run,
                force=self._options.force,
            )
            self._sweep.wait()
            if saved.key:
                self._take_up(others, saved)
            self._pass(last=not self._options.again)
            if self._options.again and not self._report.stopped:
                self._sweep.wait()
                self._pass(last=True)
        except BaseException as error:  # however a run ends, the next one need not wait for it
            self._hand_over(error)
            raise
        oldest = min(self._oldest, store_time(self._driver))
        tidy(self._driver, self._options, self._publisher.run, oldest, self._report)
        self._end(self._kept_look())

    def _take_over(self, others: adoption.Others, saved: Head) -> None:
        ledger = self._ledger()
        adoption.merge(self._driver, others, ledger)
        self._oldest = ledger.oldest
        self._publish(ledger, look=saved.key)
        if not saved.key:
            adoption.retire(self._driver, others)

    def _take_up(self, others: adoption.Others, saved: Head) -> None:
        """Go on with a look, if what is condemned was so without a gap since that began.

        It was if what the runs before have published is still there, a wait after this run has published
        the same: then no push has a view, or will get one, that has neither.
        """
        if not adoption.are_published(self._driver, others):
            log.warning("another run came between, so the look at the storage begins anew")
            self._publisher.publish(look="")  # before anything else can fail
            adoption.retire(self._driver, others)
            return
        adoption.retire(self._driver, others, needed=saved.key)
        look = self._new_look(0.0)
        if saved_look.load(self._driver, saved, look, self._live):
            self._look = look
            self._report.went_on = True
            return
        self._publisher.publish(look="")
        self._forget(saved.key)

    def _pass(self, *, last: bool) -> None:
        now = store_time(self._driver)
        look = self._look
        if look is not None and look.published:
            self._report.totals = look.totals
            self._remove(look)
            if self._report.stopped:
                return
            look = None
        if look is None:
            look = self._look = self._new_look(now)
        mark, judge = self._mark(look, now, self._publisher.current.lists)
        for shard, garbage in shards(mark, look.shard):
            verdicts = judge.shard(shard, garbage)
            for entry, since in verdicts.condemned.items():
                look.condemned.add(shard, f"{entry} {since!r}")
            for due in verdicts.due:
                look.due.add(shard, due.encode())
            look.shard = shard + 1
            look.settle(self._report.judgement())
        self._check(mark)
        ledger = self._ledger()
        for shard in range(SHARDS):
            ledger.add(shard, look.condemned_in(shard))
        ledger.close()
        self._publish(ledger, look="")
        look.published = True
        self._oldest = ledger.oldest
        before = self._report.blobs_removed
        self._remove(look)
        if last:
            removed = self._report.blobs_removed - before
            brakes.remember(self._driver, mark.totals.blobs - removed)

    def _remove(self, look: Look) -> None:
        def done(number: int) -> None:
            look.removed += number

        self._sweep.run(self._in_time(map(Due.decode, look.pending())), done)

    def _new_look(self, begun: float) -> Look:
        return Look(self._directory, self._options.spill, begun)

    def _mark(self, look: Look, now: float, lists: Sequence[str]) -> tuple[Mark, Judge]:
        """`now` is by the store's clock, and before the mark begins or goes on."""
        options, report = self._options, self._report
        references = ReferenceReader(
            self._driver, self._pool, options.ignore, save=not options.dry_run, beat=self._beat_on
        )
        untagged = options.untagged
        oldest = look.begun - max(untagged, options.minimum_age) if untagged is not None else None
        mark = Mark(
            self._driver,
            references,
            self._pool,
            look,
            expected=brakes.last_blobs(self._driver),
            untagged_before=oldest,
            links=not options.dry_run,
            beat=self._beat,
        )
        report.totals = mark.totals
        report.forget_judgement()
        if look.shard:
            report.go_on_from(look.settled[1])
        try:
            mark.run()
        finally:
            report.manifests_fetched += references.fetched
        condemned = Condemned(self._driver, lists)
        notes = keep_notes(self._driver)
        return mark, Judge(condemned, notes, now, look.begun, options, report, mark.needs)

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

    def _publish(self, ledger: Ledger, *, look: str) -> None:
        old = self._publisher.current
        self._publisher.publish(filters=ledger.filters, lists=ledger.lists, look=look)
        self._driver.delete_many([*old.lists, *old.filters])
        if old.look and old.look != look:
            self._forget(old.look)
        self._told = self._options.clock.now()

    def _beat(self, stage: str, count: int, part: float | None) -> None:
        """Raises OutOfTime, but not before something was done: any time gets to the end at last."""
        self._options.progress(stage, count, part)
        self._beat_on()

    def _beat_on(self) -> None:
        self._beats += 1
        if self._beats > 1 and self._is_late():
            raise OutOfTime(OVER)
        if not self._options.dry_run:
            self._live()

    def _live(self) -> None:
        """Tells other runs now and then that this one is alive."""
        now = self._options.clock.now()
        if now - self._told > self._options.timing.stale / 2:
            self._publisher.publish()
            self._told = now

    def _is_late(self) -> bool:
        return self._options.clock.now() > self._deadline

    def _in_time(self, due: Iterator[Due]) -> Iterator[Due]:
        """Ends early rather than raise: what a chunk has of them can be removed."""
        for number, each in enumerate(due):
            if self._is_late() and (self._beats or number >= self._options.chunk):
                self._report.stopped = OVER
                return
            yield each

    def _hand_over(self, error: BaseException) -> None:
        """So that the next run need not wait. Not while a removal may yet take effect."""
        if self._sweep.removing or not self._publisher.current.sequence:
            return
        try:
            # What a brake has found wrong is to be looked at anew.
            self._end("" if isinstance(error, Braked) else self._kept_look())
        except (DriverError, CollectionStopped) as problem:
            log.warning("the next run will wait a few minutes for this one: %s", problem)

    def _kept_look(self) -> str:
        """The key of what the next run can go on with, which is written now; empty if there is none."""
        look = self._look
        if look is None:
            return self._publisher.current.look
        if look.is_done or self._options.offline:
            return ""
        self._publisher.require()
        try:
            return saved_look.save(
                self._driver, self._publisher.run, look, self._options, self._live
            )
        except DriverError as error:
            log.warning("what this look at the storage has found is not kept: %s", error)
            return self._publisher.current.look

    def _end(self, look: str) -> None:
        old = self._publisher.current.look
        self._publisher.publish(idle=True, look=look)
        if old and old != look:
            self._forget(old)

    def _forget(self, look: str) -> None:
        """All that is left of the run that kept it, which was taken over."""
        self._driver.delete_tree(layout.run_directory(layout.run_of(look)))
