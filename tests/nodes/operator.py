"""What an operator runs beside the nodes: commands on their storage, with a configuration like theirs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.clients import Outcome, run
from tests.support.nodes import Storage

GC = (sys.executable, "-c", "from registry.cli_collector import main; main()")
QUICK: Mapping[str, Mapping[str, Any]] = {
    "gc": {"timing": {"view": "1s", "section": "2s", "lag": "0", "margin": "1s", "send": "3s"}}
}
"""For nodes and collector alike."""

REGISTRY = (sys.executable, "-m", "registry.cli")


@dataclass(frozen=True, slots=True)
class Operator:
    config: Path
    under: tuple[str, ...] = ()
    """A command that runs the others, where they have to run on another machine."""

    @classmethod
    def of(cls, storage: Storage, number: int = 0, /, **config: Any) -> Self:
        """Beside the node of this number. `config` has the sections beside that of the storage."""
        section = dict(storage.configured(number))
        path = storage.directory / f"operator-{number}.yml"
        path.write_text(yaml.safe_dump({"version": 0.1, "storage": section, **config}))
        place = storage.place(number)
        return cls(path, place.prefix if place else ())

    def start_gc(self, *options: str) -> subprocess.Popen[str]:
        """`registry-gc`, running. The caller waits for it."""
        return subprocess.Popen(
            [*self.under, *GC, str(self.config), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def gc(self, *options: str, check: bool = True) -> Outcome:
        return run([*self.under, *GC, str(self.config), *options], check=check)

    def retention(self) -> dict[str, list[str]]:
        """What `registry-gc retention` says of each tag: the cells of its line."""
        said = run([*self.under, *GC, "retention", str(self.config)]).stdout
        lines = [re.split(r"  +", line.strip()) for line in said.splitlines()]
        return {cells[0]: cells[1:] for cells in lines if len(cells) > 1}

    def restore(self, what: str) -> Outcome:
        return run([*self.under, *GC, "restore", what, "-c", str(self.config)])

    def fsck(self, *options: str, check: bool = True) -> Outcome:
        return run([*self.under, *REGISTRY, "fsck", *options, str(self.config)], check=check)

    def doctor(self) -> Outcome:
        """It may find something."""
        return run([*self.under, *REGISTRY, "doctor", str(self.config)], check=False)
