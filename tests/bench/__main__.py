"""`python -m tests.bench`: Holdfast beside another registry, in the same run. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import chart
from tests.bench.contenders import (
    Contender,
    compile_holdfast,
    distribution,
    from_text,
    holdfast,
)
from tests.bench.measure import QUICK, Row, Scale
from tests.bench.report import Report
from tests.bench.rows import ROWS
from tests.bench.runner import Result, run_row, too_late

_SHARES = 2
"""Of the time that is left, how many rows' shares one row may take for its pairs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every row has its figures, 1 when a row failed, 2 when nothing could be run."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        peer = _peer(options.peer)
        rows = _chosen(options.rows)
    except ValueError as error:
        parser.error(str(error))
    for path in (options.json, options.markdown):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    if options.charts:
        options.charts.mkdir(parents=True, exist_ok=True)
    ours = holdfast()
    compile_holdfast()
    scale = QUICK if options.quick else Scale()
    results: list[Result] = []
    end = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=options.directory) as place:
        for number, row in enumerate(rows):
            print(f"{row.name} ...", file=sys.stderr, flush=True)
            left = end - time.monotonic()
            if left <= 0:
                results.append(too_late(row, options.minutes))
                continue
            share = left / (len(rows) - number)
            with tempfile.TemporaryDirectory(dir=place) as directory:
                result = run_row(
                    row,
                    ours,
                    peer,
                    scale=scale,
                    rounds=options.rounds,
                    seconds=min(options.row_seconds, _SHARES * share),
                    directory=Path(directory),
                )
            results.append(result)
            _write(Report(ours, peer, scale, options.quick, results), options)
    report = Report(ours, peer, scale, options.quick, results)
    _write(report, options)
    print(report.text())
    return 1 if any(result.failure for result in results) else 0


def _write(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        report.write_json(options.json)
    if options.markdown:
        report.write_markdown(options.markdown)
    if options.charts:
        chart.write(options.charts, report.results, report.circumstances(), report.peer.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--rows", help=f"some of these, with commas between: {names}")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of samples for each row")
    parser.add_argument("--quick", action="store_true", help="small sizes: to try the bench itself")
    parser.add_argument("--peer", help="NAME=COMMAND, instead of Debian's docker-registry")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--charts", type=Path, help="write charts of it to this directory")
    parser.add_argument("--directory", help="where the trees are made; default: the system's /tmp")
    parser.add_argument(
        "--row-seconds",
        type=float,
        default=90,
        help="after this time a row begins no further pair",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=40,
        help="for the whole run: when short, rows take fewer pairs; when over, no row begins",
    )
    return parser


def _peer(text: str | None) -> Contender:
    if text is not None:
        return from_text(text)
    peer = distribution()
    if peer is None:
        raise ValueError(
            "docker-registry is not installed; install Debian's package of that name, or name "
            "another registry with --peer."
        )
    return peer


def _chosen(text: str | None) -> list[Row[Any]]:
    if text is None:
        return list(ROWS)
    by_name = {row.name: row for row in ROWS}
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in by_name]:
        raise ValueError(f"There is no row {unknown[0]!r}; the rows are {', '.join(by_name)}.")
    return [by_name[name] for name in names]


if __name__ == "__main__":
    sys.exit(main())
