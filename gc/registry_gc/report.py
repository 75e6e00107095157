"""What a run did, for people, for programs, and for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from registry_gc.look import Totals
from registry_gc.mark import Garbage

SHOWN = 10
TOLD = 200
"""Repositories that a person, and Prometheus, is told of: those that hold most."""
JUDGEMENT = (
    "condemned_blobs",
    "condemned_manifests",
    "condemned_bytes",
    "waiting",
    "waiting_bytes",
    "released",
)


@dataclass(slots=True)
class Report:
    run: str = ""
    dry_run: bool = False
    tags_removed: int = 0
    totals: Totals = field(default_factory=Totals)
    condemned_blobs: int = 0
    """Condemned by this run for the first time, as are the next two."""
    condemned_manifests: int = 0
    condemned_bytes: int = 0
    waiting: int = 0
    """Condemned by this run or before, and not yet removed."""
    waiting_bytes: int = 0
    blobs_removed: int = 0
    manifests_removed: int = 0
    links_removed: int = 0
    bytes_freed: int = 0
    saved: int = 0
    """Announced for removal, and kept because somebody pushed it again."""
    released: int = 0
    """Blobs that were condemned, and are needed again."""
    uploads_removed: int = 0
    manifests_fetched: int = 0
    seconds: float = 0.0
    requests: int = 0
    went_on: bool = False
    """With a look at the storage that an earlier run had begun."""
    stopped: str = ""
    """Why the run ended early; empty if it did not."""

    def forget_judgement(self) -> None:
        """A second mark judges all anew, and what it says replaces what the first one said."""
        self.waiting = self.waiting_bytes = self.released = 0

    def judgement(self) -> dict[str, int]:
        """What was counted of it, for go_on_from()."""
        return {name: getattr(self, name) for name in JUDGEMENT}

    def go_on_from(self, judgement: Mapping[str, int]) -> None:
        for name in JUDGEMENT:
            setattr(self, name, judgement.get(name, 0))

    def wait(self, each: Garbage) -> None:
        self.waiting += 1
        self.waiting_bytes += each.size

    def condemn(self, each: Garbage) -> None:
        self.condemned_bytes += each.size
        if each.is_blob:
            self.condemned_blobs += 1
        else:
            self.condemned_manifests += 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def sentences(report: Report) -> list[str]:
    """For a person, a line each. Why the run ended early is not among them: that is for stderr."""
    totals = report.totals
    would = "would be " if report.dry_run else ""
    lines = [
        f"{totals.repositories} repositories with {totals.tags} tags and {totals.manifests} manifests; "
        f"{totals.blobs} blobs, {amount(totals.bytes)}.",
        f"Needed: {totals.live_blobs} blobs, {amount(totals.live_bytes)}.",
        f"Garbage {would}newly condemned: {report.condemned_blobs} blobs and {report.condemned_manifests} "
        f"manifests, {amount(report.condemned_bytes)}; "
        f"condemned and not yet removed: {report.waiting}, {amount(report.waiting_bytes)}.",
        f"Removed: {report.blobs_removed} blobs, {report.manifests_removed} manifests, "
        f"{report.links_removed} links, {report.tags_removed} tags, {report.uploads_removed} uploads; "
        f"{amount(report.bytes_freed)} freed.",
    ]
    if report.went_on:
        lines.append("It went on with a look at the storage that an earlier run had begun.")
    if totals.dangling:
        lines.append(
            f"{totals.dangling} links name manifests that are not there; `registry fsck` lists them."
        )
    if report.released:
        lines.append(f"{report.released} blobs were condemned and are needed again, so they stay.")
    if report.saved:
        lines.append(f"{report.saved} were about to be removed and are pushed again, so they stay.")
    if totals.repositories > 1:
        lines.append("Repositories that hold most, by themselves and together with others:")
        for name, alone, shared in largest(totals, SHOWN):
            lines.append(f"  {name}: {amount(alone)}, {amount(shared)}")
    lines.append(f"Run {report.run or '-'}: {report.seconds:.1f} s, {report.requests} requests.")
    return lines


def largest(totals: Totals, count: int) -> list[tuple[str, int, int]]:
    """Repositories, with the bytes that only each needs, and those that it shares; most first."""
    names = totals.unique.keys() | totals.shared.keys()
    found = [(name, totals.unique.get(name, 0), totals.shared.get(name, 0)) for name in names]
    return sorted(found, key=lambda each: (-each[1], -each[2], each[0]))[:count]


def amount(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


METRICS = {
    "repositories": "Repositories seen.",
    "manifests": "Manifests seen.",
    "blobs": "Blobs seen.",
    "blobs_needed": "Blobs that some manifest needs.",
    "condemned": "Entries condemned by the last run for the first time.",
    "waiting": "Entries condemned and not yet removed.",
    "waiting_bytes": "Bytes that they hold.",
    "removed_blobs": "Blobs removed by the last run.",
    "removed_manifests": "Manifests removed by the last run.",
    "removed_tags": "Tags removed by the last run.",
    "freed_bytes": "Bytes freed by the last run.",
    "saved": "Entries that a push kept at the last moment.",
    "released": "Blobs that were condemned and are needed again.",
    "duration_seconds": "How long the last run took.",
    "requests": "Calls to the storage by the last run.",
    "finished_timestamp_seconds": "When the last run ended.",
    "exit_code": "How the last run ended; 0 is well.",
}


def prometheus(report: Report, *, finished: float, exit_code: int) -> str:
    """The text of a file for node_exporter's textfile collector."""
    totals = report.totals
    values: dict[str, float] = {
        "repositories": totals.repositories,
        "manifests": totals.manifests,
        "blobs": totals.blobs,
        "blobs_needed": totals.live_blobs,
        "condemned": report.condemned_blobs + report.condemned_manifests,
        "waiting": report.waiting,
        "waiting_bytes": report.waiting_bytes,
        "removed_blobs": report.blobs_removed,
        "removed_manifests": report.manifests_removed,
        "removed_tags": report.tags_removed,
        "freed_bytes": report.bytes_freed,
        "saved": report.saved,
        "released": report.released,
        "duration_seconds": report.seconds,
        "requests": report.requests,
        "finished_timestamp_seconds": finished,
        "exit_code": exit_code,
    }
    lines = []
    for name, value in values.items():
        metric = f"holdfast_gc_{name}"
        lines += [
            f"# HELP {metric} {METRICS[name]}",
            f"# TYPE {metric} gauge",
            f"{metric} {value:.15g}",
        ]
    for name, text, column in (
        ("unique", "Bytes that only this repository needs.", 1),
        ("shared", "Bytes that this repository needs together with others.", 2),
    ):
        metric = f"holdfast_gc_repository_{name}_bytes"
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} gauge"]
        lines += [
            f'{metric}{{repository="{each[0]}"}} {each[column]}' for each in largest(totals, TOLD)
        ]
    return "\n".join(lines) + "\n"
