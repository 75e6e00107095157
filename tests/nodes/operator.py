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

    @classmethod
    def of(cls, storage: Storage, **config: Any) -> Self:
        """`config` has the sections beside that of the storage."""
        section = (
            {"filesystem": {"rootdirectory": str(storage.root)}}
            if storage.root is not None
            else dict(storage.section)
        )
        path = storage.directory / "operator.yml"
        path.write_text(yaml.safe_dump({"version": 0.1, "storage": section, **config}))
        return cls(path)

    def start_gc(self, *options: str) -> subprocess.Popen[str]:
        """`registry-gc`, running. The caller waits for it."""
        return subprocess.Popen(
            [*GC, str(self.config), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def gc(self, *options: str, check: bool = True) -> Outcome:
        return run([*GC, str(self.config), *options], check=check)

    def retention(self) -> dict[str, list[str]]:
        """What `registry-gc retention` says of each tag: the cells of its line."""
        said = run([*GC, "retention", str(self.config)]).stdout
        lines = [re.split(r"  +", line.strip()) for line in said.splitlines()]
        return {cells[0]: cells[1:] for cells in lines if len(cells) > 1}

    def restore(self, what: str) -> Outcome:
        return run([*GC, "restore", what, "-c", str(self.config)])

    def fsck(self, *options: str, check: bool = True) -> Outcome:
        return run([*REGISTRY, "fsck", *options, str(self.config)], check=check)
