"""Charts of a run, as SVG that shows on light and dark pages alike."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Figure
from tests.bench.runner import Result
from tests.bench.scale import SIZES

_OURS, _PEER, _FLOOR, _INK = "#2f81f7", "#8b949e", "#d29922", "#7d8590"
_WIDTH = 820
_LABELS = 370
"""Where the bars begin."""
_ROOM = 90
"""Behind the longest bar, for its figure."""
_MOST = 2.0
"""Longer bars end here, with their figure: one of them would make all others too short to read."""
_LINE = 26
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
_CHARTED = (Figure.CPU, Figure.WALL, Figure.P99, Figure.MEMORY, Figure.GROWTH)


def write(directory: Path, results: Sequence[Result], caption: str, peer: str) -> None:
    """`benchmarks.svg` and `scale.svg`, each only if the run had rows for it."""
    measured = [result for result in results if not result.failure]
    scaled = [result for result in measured if result.row.name.startswith("scale-")]
    compared = [result for result in measured if result not in scaled]
    if compared:
        (directory / "benchmarks.svg").write_text(bars(compared, caption, peer))
    if scaled:
        (directory / "scale.svg").write_text(lines(scaled, caption, peer))


def bars(results: Sequence[Result], caption: str, peer: str) -> str:
    """Ours as a part of the peer's, which is the whole width; a mark where the floor is."""
    full = _WIDTH - _LABELS - _ROOM
    shown = [
        (result, spread.median)
        for result in results
        if result.row.figure in _CHARTED and (spread := result.ratio(result.row.figure))
    ]
    most = min(_MOST, max([1.0, *(ratio for _, ratio in shown)]))
    unit = full / most
    parts = [
        _text(_LABELS, 18, f"{peer} = 1; shorter is better", anchor="start", colour=_PEER),
        f'<rect x="{_LABELS + unit - 1:.1f}" y="26" width="2" '
        f'height="{len(shown) * _LINE}" fill="{_PEER}"/>',
    ]
    for number, (result, ratio) in enumerate(shown):
        figure = result.row.figure
        top = 30 + number * _LINE
        parts.append(_text(_LABELS - 10, top + 13, _label(result), anchor="end"))
        length = min(ratio, most) * unit
        parts.append(_bar(top, length, _OURS))
        parts.append(_text(_LABELS + length + 6, top + 13, f"{ratio:.2f}", anchor="start"))
        floor = result.floor(figure)
        if floor is not None:
            at = _LABELS + unit * floor.median / result.values(figure)[1].median
            parts.append(f'<rect x="{at:.1f}" y="{top}" width="3" height="18" fill="{_FLOOR}"/>')
    bottom = 30 + len(shown) * _LINE
    if any(result.floors for result, _ in shown):
        note = "| what nginx needs for the same bytes, or SHA-256 and a write"
        parts.append(_text(_LABELS, bottom + 18, note, anchor="start", colour=_FLOOR))
    parts.append(_text(10, bottom + 42, caption, anchor="start", colour=_INK, size=10))
    return _picture(bottom + 56, parts)


@dataclass(frozen=True, slots=True)
class _Curve:
    name: str
    colour: str
    dashed: bool
    points: tuple[tuple[int, float], ...]
    """Size of the tree, and what one request costs in milliseconds."""


def lines(results: Sequence[Result], caption: str, peer: str) -> str:
    """CPU of one request over the size of the tree, both on logarithmic axes."""
    curves = [curve for curve in _curves(results, peer) if curve.points]
    values = [value for curve in curves for _, value in curve.points]
    least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    left, top, width, height = 80, 40, 520, 300

    def x(size: float) -> float:
        return left + width * math.log10(size) / math.log10(SIZES[-1])

    def y(value: float) -> float:
        return top + height * (most - math.log10(value)) / max(1, most - least)

    parts = [_text(left, 20, "CPU of a request, ms, over the size of the tree", anchor="start")]
    for power in range(least, most + 1):
        at = y(10.0**power)
        parts.append(_rule(left, at, left + width, at))
        parts.append(_text(left - 8, at + 4, f"{10.0**power:g}", anchor="end"))
    parts += [_text(x(size), top + height + 20, f"{size} x", anchor="middle") for size in SIZES]
    for curve in curves:
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in curve.points)
        dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{curve.colour}" '
            f'stroke-width="2.5"{dash}/>'
        )
        size, value = curve.points[-1]
        parts.append(
            _text(x(size) + 8, y(value) + 4, curve.name, anchor="start", colour=curve.colour)
        )
    parts.append(_text(10, top + height + 48, caption, anchor="start", colour=_INK, size=10))
    return _picture(top + height + 62, parts)


def _curves(results: Sequence[Result], peer: str) -> list[_Curve]:
    found = {result.row.name: result for result in results}
    curves = []
    for family, where, dashed in (("scale", "files", False), ("scale-s3", "S3", True)):
        sides = [(size, found.get(f"{family}-{size}")) for size in SIZES]
        for side, (who, colour) in enumerate((("Holdfast", _OURS), (peer, _PEER))):
            points = tuple(
                (size, result.values(result.row.figure)[side].median)
                for size, result in sides
                if result is not None
            )
            curves.append(_Curve(f"{who}, {where}", colour, dashed, points))
    return curves


def _label(result: Result) -> str:
    title = result.row.title
    short = title if len(title) <= 52 else f"{title[:50]}..."
    return f"{short}, {'memory' if result.row.figure is Figure.MEMORY else result.row.figure.value}"


def _bar(top: float, width: float, colour: str) -> str:
    return f'<rect x="{_LABELS}" y="{top}" width="{width:.1f}" height="18" rx="2" fill="{colour}"/>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{_INK}" stroke-opacity="0.3"/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str, colour: str = _INK, size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}">{html.escape(text)}</text>'
    )


def _picture(height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" {_FONT}>\n{body}\n</svg>\n'
    )
