"""What a copy did, and what it could not do."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Final

from registry_gc.report import amount

LISTED: Final = 1000
"""Problems, and names that only the target has, that are kept as sentences; the rest is counted."""


@dataclass(slots=True)
class Sentences:
    """The first LISTED of them, and how many there were."""

    first: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, sentence: str) -> None:
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append(sentence)


@dataclass(slots=True)
class Report:
    """Thread-safe through its methods. What is seen is that of the last pass; what is copied, of all."""

    dry_run: bool = False
    passes: int = 0
    repositories: int = 0
    manifests: int = 0
    tags: int = 0
    blobs: int = 0
    bytes: int = 0
    copied_blobs: int = 0
    copied_bytes: int = 0
    copied_manifests: int = 0
    copied_links: int = 0
    """Layer links and the history of tags."""
    copied_tags: int = 0
    copied_records: int = 0
    """Ours: tokens, last pulls, the journal."""
    removed: int = 0
    nowhere: int = 0
    """Links and tags that lead to nothing at the source, and are absent there from every answer."""
    problems: Sentences = field(default_factory=Sentences)
    extra: Sentences = field(default_factory=Sentences)
    """What the target has and the source has not."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)

    def problem(self, sentence: str) -> None:
        with self._lock:
            self.problems.add(sentence)

    def only_at_target(self, name: str) -> None:
        with self._lock:
            self.extra.add(name)

    @property
    def copied(self) -> int:
        return (
            self.copied_blobs
            + self.copied_manifests
            + self.copied_links
            + self.copied_tags
            + self.copied_records
        )

    def begin_pass(self) -> None:
        """Another look at everything: what the last one said of it is over."""
        self.passes += 1
        self.repositories = self.manifests = self.tags = self.blobs = self.bytes = self.nowhere = 0
        self.problems, self.extra = Sentences(), Sentences()

    def as_json(self) -> dict[str, Any]:
        hidden = {"problems", "extra", "_lock"}
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in hidden}
        return {
            **plain,
            "problems": self.problems.first,
            "problem_count": self.problems.count,
            "only_at_target": self.extra.first,
            "only_at_target_count": self.extra.count,
        }


def sentences(report: Report, *, removes: bool) -> list[str]:
    """For a person, a line each; problems first."""
    lines = [*report.problems.first]
    if report.problems.count > len(lines):
        lines.append(f"... and {report.problems.count - len(lines)} more problems.")
    if report.extra.count and not removes:
        lines += [f"Only at the target: {name}." for name in report.extra.first[:20]]
        lines.append(
            f"The target has {report.extra.count} names that the source has not: deleted there since, or "
            "pushed here. They stay; --delete removes them."
        )
    if report.nowhere:
        lines.append(
            f"{report.nowhere} names lead to nothing at the source, are absent there from every answer, "
            "and were left out."
        )
    lines += [
        f"Source: {report.repositories} repositories with {report.tags} tags and {report.manifests} "
        f"manifests; {report.blobs} blobs, {amount(report.bytes)}.",
        f"{'Would copy' if report.dry_run else 'Copied'}: {report.copied_blobs} blobs, "
        f"{amount(report.copied_bytes)}; {report.copied_manifests} manifests, {report.copied_tags} "
        f"tags, {report.copied_links} links, {report.copied_records} records."
        + (f" Removed: {report.removed} names." if report.removed else ""),
    ]
    if report.problems.count:
        lines.append(
            f"{report.problems.count} problems: what is named above is not at the target. Mend it at the "
            "source and run the same command again; what is copied stays."
        )
    elif report.dry_run:
        lines.append("Nothing was written, and no blob was read.")
    else:
        lines.append("All that the source serves is at the target.")
    return lines
