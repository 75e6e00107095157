"""What was measured, as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.contenders import Contender
from tests.bench.measure import Figure, Scale, Target
from tests.bench.runner import Result, Spread

BEGIN = "<!-- results: begin -->"
END = "<!-- results: end -->"

_BETWEEN = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Report:
    ours: Contender
    peer: Contender
    scale: Scale
    quick: bool
    results: Sequence[Result]

    def circumstances(self) -> str:
        """One sentence of what was compared, where and when."""
        cores = len(os.sched_getaffinity(0))
        when = datetime.now(UTC).strftime("%Y-%m-%d")
        sizes = ", with reduced sizes (--quick)" if self.quick else ""
        return (
            f"{self.ours.name} {self.ours.version} against {self.peer.name} {self.peer.version}"
            f"{sizes}, {when}, {platform.system()} {platform.release()}, {_processor()}, {cores} cores."
        )

    def header(self) -> list[str]:
        names = [self.ours.name, self.peer.name]
        return ["row", "figure", *names, "ratio", "floor", "wall", "RSS", "target"]

    def lines(self) -> list[list[str]]:
        return [line for result in self.results for line in _lines(result)]

    def text(self) -> str:
        rows = [self.header(), *self.lines()]
        columns = range(len(self.header()))
        widths = [max(len(row[column]) for row in rows if column < len(row)) for column in columns]
        widths[2] = min(widths[2], 40)  # a failure stands there, and may be long
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            for row in rows
        ]
        return "\n".join([self.circumstances(), "", *(line.rstrip() for line in lines)])

    def markdown(self) -> str:
        def row(cells: Sequence[str]) -> str:
            padded = [*cells, *[""] * (len(self.header()) - len(cells))]
            return f"| {' | '.join(cell.replace('|', '/') for cell in padded)} |"

        return "\n".join(
            [
                self.circumstances(),
                "",
                row(self.header()),
                row(["---"] * len(self.header())),
                *map(row, self.lines()),
            ]
        )

    def write_markdown(self, path: Path) -> None:
        """Replace what is between BEGIN and END in the file; where they are missing, the whole file."""
        block = f"{BEGIN}\n{self.markdown()}\n{END}"
        old = path.read_text() if path.exists() else ""
        new = _BETWEEN.sub(lambda _: block, old) if _BETWEEN.search(old) else f"{block}\n"
        path.write_text(new)

    def write_json(self, path: Path) -> None:
        document = {
            "circumstances": self.circumstances(),
            "ours": asdict(self.ours),
            "peer": asdict(self.peer),
            "scale": asdict(self.scale),
            "quick": self.quick,
            "rows": [_row_document(result) for result in self.results],
        }
        path.write_text(json.dumps(document, indent=2) + "\n")


def _lines(result: Result) -> list[list[str]]:
    """One for the row's own figure, and one for each further one, which repeats no wall and no RSS."""
    row = result.row
    if result.failure is not None:
        return [[row.title, "FAILED", " ".join(result.failure.split())[:300]]]
    wall_ours, wall_peer = result.values(Figure.WALL)
    memory_ours, memory_peer = result.values(Figure.MEMORY)
    beside = [
        f"{_number(wall_ours.median)} / {_number(wall_peer.median)} s",
        f"{_number(memory_ours.median)} / {_number(memory_peer.median)} MB",
    ]
    lines = []
    for number, (figure, target) in enumerate(result.figures()):
        ours, peer = result.values(figure)
        ratio = result.ratio(figure)
        lines.append(
            [
                "" if number else row.title,
                _figure_name(figure, row.unit),
                _spread(ours),
                _spread(peer),
                _spread(ratio) if ratio else "",
                _floor(result, figure),
                *(["", ""] if number else beside),
                _target(result, figure, target),
            ]
        )
    return lines


def _figure_name(figure: Figure, unit: str) -> str:
    match figure:
        case Figure.MEMORY:
            return "peak RSS of the largest process, MB"
        case Figure.SLOWDOWN:
            return str(figure.value)
        case Figure.REQUESTS:
            return f"{figure.value} per {unit}"
        case Figure.P99:
            return "p99, ms"
        case Figure.GROWTH:
            return f"RSS of all processes, KB per {unit}"
        case Figure.CPU | Figure.WALL:
            return f"{figure.value} s per {unit}"


def _spread(spread: Spread) -> str:
    return f"{_number(spread.median)} ({_number(spread.least)}..{_number(spread.most)})"


def _number(value: float) -> str:
    """Three digits that count, never an exponent."""
    for limit, digits in ((0.1, 4), (1, 3), (10, 2), (100, 1)):
        if value < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def _target(result: Result, figure: Figure, target: Target | None) -> str:
    if target is None:
        return ""
    promised = []
    if target.ratio is not None:
        promised.append(f"ratio {target.ratio:.3g}")
    if target.figure is not None:
        promised.append(f"{target.figure:g}")
    if target.floor is not None:
        above = result.above_floor(figure)
        is_at = "unknown" if above is None else f"{above:.2f}"
        promised.append(f"{target.floor:g} of the floor ({is_at})")
    return f"{', '.join(promised)}: {'met' if result.meets(figure, target) else 'MISSED'}"


def _floor(result: Result, figure: Figure) -> str:
    if result.floor_failure is not None:
        return f"FAILED: {' '.join(result.floor_failure.split())[:100]}"
    spread = result.floor(figure)
    if spread is None or result.row.floor is None:
        return ""
    return f"{result.row.floor.name} {_number(spread.median)}"


def _row_document(result: Result) -> dict[str, object]:
    row = result.row
    document: dict[str, object] = {
        "name": row.name,
        "title": row.title,
        "figure": row.figure.value,
        "unit": row.unit,
        "load_average": result.load,
    }
    if result.failure is not None:
        return {**document, "failure": result.failure}
    shown = [Figure.CPU, Figure.WALL, Figure.MEMORY, *(figure for figure, _ in row.further)]
    for figure in dict.fromkeys(shown):
        ours, peer = result.values(figure)
        ratio = result.ratio(figure)
        document[figure.value] = {
            "ours": asdict(ours),
            "peer": asdict(peer),
            "ratio": asdict(ratio) if ratio else None,
        }
    if row.floor is not None:
        document["floor"] = {
            "name": row.floor.name,
            "failure": result.floor_failure,
            "samples": [asdict(sample) for sample in result.floors],
        }
    document["target_met"] = result.met()
    document["pairs"] = [[asdict(ours), asdict(peer)] for ours, peer in result.pairs]
    return document


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        found = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    return found[1] if found else platform.machine()
