"""What becomes of each entry that one mark found to be garbage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from registry_gc.ledger import Condemned
from registry_gc.mark import Garbage
from registry_gc.options import Options
from registry_gc.report import Report
from registry_gc.sweep import Due, relied_on
from storage.collection.entries import Entry


@dataclass(slots=True)
class Verdicts:
    condemned: dict[Entry, float] = field(default_factory=dict)
    """With the time each was first condemned."""
    due: list[Due] = field(default_factory=list)


class Judge:
    """shard() once for each, in order. Counts in the report."""

    def __init__(
        self,
        condemned: Condemned,
        notes: Mapping[str, float],
        now: float,
        begun: float,
        options: Options,
        report: Report,
        needs: Callable[[Entry], bool],
    ) -> None:
        """`begun`: before the look began, maybe in an earlier run; `now`: before this run went on with it;
        both by the store's clock. `needs` as Mark.needs().
        """
        self._condemned = condemned
        self._notes = notes
        self._now = now
        self._young = begun - options.minimum_age
        self._undo = 0.0 if options.again else options.undo
        self._at_once = options.offline
        self._report = report
        self._needs = needs

    def shard(self, shard: int, garbage: Mapping[Entry, Garbage]) -> Verdicts:
        """What was condemned before the mark, and is garbage in it, is confirmed."""
        verdicts = Verdicts()
        before = self._condemned.shard(shard)
        for entry, each in garbage.items():
            first = before.get(entry)
            if first is not None and not relied_on(entry, first, self._notes):
                self._confirm(verdicts, entry, each, first)
            elif each.modified <= self._young:  # its time begins, or begins anew
                self._condemn(verdicts, entry, each)
        self._report.released += sum(map(self._needs, before.keys() - garbage.keys()))
        return verdicts

    def _confirm(self, verdicts: Verdicts, entry: Entry, each: Garbage, first: float) -> None:
        verdicts.condemned[entry] = first
        self._report.wait(each)
        if self._now - first >= self._undo:
            verdicts.due.append(Due(entry, first, each.size, each.links))

    def _condemn(self, verdicts: Verdicts, entry: Entry, each: Garbage) -> None:
        verdicts.condemned[entry] = self._now
        self._report.wait(each)
        self._report.condemn(each)
        if self._at_once:
            verdicts.due.append(Due(entry, self._now, each.size, each.links))
