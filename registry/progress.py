"""One line on a terminal that is written over: what is being done, and how much of it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressLine:
    """Call it as often as you like; nothing is shown unless `show`, which is where somebody looks."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""

    def __call__(self, stage: str, count: int, part: float | None = None) -> None:
        """`part`, from 0 to 1, is how much of the stage is done, where that is known."""
        if not self._show:
            return
        if self._bars is None or self._task is None:
            self._bars = _bars()
            self._task = self._bars.add_task("")
            self._bars.start()
        self._bars.update(
            self._task,
            description=f"{count} {stage}",
            completed=part or 0.0,
            total=None if part is None else 1.0,
            refresh=stage != self._stage,
        )
        self._stage = stage

    def clear(self) -> None:
        if self._bars is not None:
            self._bars.stop()


def _bars() -> Progress:
    # Runs from cron need none of it, and it takes a tenth of a second to import.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    return Progress(
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
