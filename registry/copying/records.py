"""What is Holdfast's own and is about the registry, not about the storage it was in.

The rest of `holdfast/` and `gc/` stays behind: a secret that only uploads in progress know, indexes that
are made anew, files being written, and what the collector condemned, announced, set aside or counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from registry.copying.crew import Crew, said_of
from registry.copying.report import Report
from registry.copying.times import keep_time
from storage import layout
from storage.driver import Driver, ObjectInfo
from storage.driver_errors import DriverError, ObjectNotFound

FIRST: Final = (layout.REVOKED, layout.TOKENS)
"""Before any image: a token that was taken back must not be good again anywhere."""
LAST: Final = (layout.JOURNAL,)


class Records:
    """Records never change, but for their time."""

    def __init__(self, source: Driver, target: Driver, crew: Crew, report: Report) -> None:
        self._source = source
        self._target = target
        self._crew = crew
        self._report = report

    def copy_first(self) -> None:
        self._copy(FIRST)

    def copy_last(self) -> None:
        """When the last pulls are there. Since then they are known, so a later time only keeps more."""
        self._copy(LAST)
        try:
            since = self._source.stat(layout.PULLS_SINCE)
        except ObjectNotFound:
            return
        if not self._is_there(layout.PULLS_SINCE):
            self._crew.each(self._copy_one, [since])

    def _copy(self, prefixes: tuple[str, ...]) -> None:
        for prefix in prefixes:
            self._crew.each(self._copy_one, self._lacking(prefix))

    def _lacking(self, prefix: str) -> Iterator[ObjectInfo]:
        held = {info.key for info in self._target.walk(prefix)}
        return (info for info in self._source.walk(prefix) if info.key not in held)

    def _copy_one(self, info: ObjectInfo) -> None:
        def attempt() -> None:
            self._target.write(info.key, self._source.read(info.key))
            keep_time(self._target, info.key, info.modified)

        if not self._report.dry_run:
            try:
                self._crew.patiently(attempt)
            except ObjectNotFound:
                return  # its time is over
            except DriverError as error:
                self._report.problem(f"{info.key} could not be copied: {said_of(error)}.")
                return
        self._report.count(copied_records=1)

    def _is_there(self, key: str) -> bool:
        try:
            self._target.stat(key)
        except ObjectNotFound:
            return False
        return True
