"""A copy from end to end: twice over, so that what was pushed during the first pass is there as well."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from registry_gc.report import amount

from registry.copying.blobs import Blobs, Plan
from registry.copying.crew import Crew, GivenUp
from registry.copying.progress import Progress
from registry.copying.records import Records
from registry.copying.report import Report
from registry.copying.repository import RepositoryCopy
from registry.copying.trees import Contents, contents, pairs
from storage import layout
from storage.collection.guard import Guard
from storage.collection.timing import Timing
from storage.driver import Driver
from storage.repository import Store


@dataclass(frozen=True, slots=True)
class Wanted:
    jobs: int = 8
    dry_run: bool = False
    overwrite: bool = False
    """Tags that were pushed at the target become the source's."""
    delete: bool = False
    """Tags and manifests that the source has not go from the target."""
    read_back: bool = False
    """Every blob is read again from the target, and hashed."""


def copy(
    source: Driver,
    target: Driver,
    wanted: Wanted,
    progress: Progress,
    timing: Timing,
    free: Callable[[], int | None] = lambda: None,
) -> Report:
    """Only reads the source; with `dry_run` the target as well.

    `timing` is the target's; `free` says how many bytes it has room for, if that can be told. Raises
    GivenUp, and the drivers' errors for what could not even be listed: what was copied stays.
    """
    report = Report(dry_run=wanted.dry_run)
    crew = Crew(wanted.jobs)
    try:
        work = _Copy(source, target, wanted, progress, crew, report, timing, free)
        work.one_pass()
        if report.copied and not wanted.dry_run:
            work.one_pass()
    finally:
        crew.stop.set()
        crew.close()
    return report


class _Copy:
    def __init__(
        self,
        source: Driver,
        target: Driver,
        wanted: Wanted,
        progress: Progress,
        crew: Crew,
        report: Report,
        timing: Timing,
        free: Callable[[], int | None],
    ) -> None:
        self._source = source
        self._target = target
        self._wanted = wanted
        self._progress = progress
        self._crew = crew
        self._report = report
        self._free = free
        self._store = Store(target, guard=Guard(target, timing))
        self._blobs = Blobs(source, target, crew, report, progress, read_back=wanted.read_back)

    def one_pass(self) -> None:
        self._report.begin_pass()
        again = "" if self._report.passes == 1 else " again, for what was pushed meanwhile"
        if not self._wanted.dry_run:
            self._blobs.remove_leftovers()
        records = Records(self._source, self._target, self._crew, self._report)
        records.copy_first()
        self._progress.begin(f"Comparing blobs{again}")
        with closing(Plan()) as plan:
            plan.draw_up(self._source, self._target, self._crew.workers)
            self._report.count(blobs=plan.all_blobs, bytes=plan.all_bytes)
            self._copy_blobs(plan)
        self._progress.begin(f"Comparing and linking repositories{again}")
        self._copy_repositories()
        records.copy_last()

    def _copy_blobs(self, plan: Plan) -> None:
        if self._wanted.dry_run:
            self._report.count(copied_blobs=plan.blobs, copied_bytes=plan.bytes)
            return
        if not plan.blobs:
            return
        free = self._free()
        if free is not None and free < plan.bytes:
            raise GivenUp(
                f"The target has room for {amount(free)}, and {amount(plan.bytes)} are to be copied. Make "
                "room there, and run the same command again."
            )
        self._progress.begin("Copying blobs", plan.blobs, plan.bytes)
        self._crew.each(self._blobs.copy_planned, plan.lacking())

    def _copy_repositories(self) -> None:
        if self._wanted.delete and next(contents(self._source, _ignore), None) is None:
            raise GivenUp(
                "The source has no repository at all, so --delete would remove everything at the target. "
                "Look whether the source is mounted; nothing was removed."
            )
        each = RepositoryCopy(
            self._source,
            self._target,
            self._store,
            self._blobs,
            self._crew,
            self._report,
            overwrite=self._wanted.overwrite,
            delete=self._wanted.delete,
        )
        work = each.count if self._wanted.dry_run else each.copy

        def one(pair: tuple[Contents, Contents]) -> None:
            work(*pair)
            self._progress.item()

        self._crew.oversee(one, pairs(self._source, self._target, self._strange))

    def _strange(self, path: str) -> None:
        self._report.problem(
            f"{path} is in the place of a repository, and that is no name of one: it is left out."
        )


def _ignore(path: str) -> None:
    """Of what is strange the copy itself tells."""


def has_tree(driver: Driver) -> bool:
    """Whether anything was ever pushed to this storage."""
    return any(
        next(iter(driver.list(place)), None) is not None
        for place in (layout.BLOBS, layout.REPOSITORIES)
    )
