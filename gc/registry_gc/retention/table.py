"""What a retention rule makes of a repository's tags, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry_gc.report import amount
from registry_gc.retention.applying import Judged
from registry_gc.retention.policy import days
from storage.model.reference import Tag

HEAD = ("tag", "pushed", "last pull", "alone holds", "", "by")


def table(judged: Judged, sizes: Mapping[Tag, int], now: float) -> list[str]:
    """Lines; the columns as wide as they must be."""
    rows = [
        (
            each.facts.tag.value,
            _ago(each.facts.pushed, now),
            "-" if each.facts.pulled is None else _ago(each.facts.pulled, now),
            amount(sizes.get(each.facts.tag, 0)),
            "kept" if each.kept else "removed",
            each.reason,
        )
        for each in judged.decisions
    ]
    rule = ", ".join(pattern.source for pattern in judged.rule.repositories)
    return [
        f"{judged.name}, by the rule for {rule}:",
        *(f"  {line}" for line in _aligned([HEAD, *rows])),
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _ago(moment: float, now: float) -> str:
    return f"{days(max(0.0, round((now - moment) / 3600) * 3600))} ago"
