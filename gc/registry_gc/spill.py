"""Lines of text in 256 shards, by the first byte of a digest: in memory while they are few, then in files.

So the memory of a run is that of its largest shard, however many blobs there are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

SHARDS = 256


class Spill:
    def __init__(self, directory: Path, limit: int) -> None:
        """`limit`: lines kept in memory. The directory is the caller's, and ends after the spill."""
        self._directory = Path(tempfile.mkdtemp(dir=directory))
        self._limit = limit
        self._lines: list[list[str]] = [[] for _ in range(SHARDS)]
        self._held = 0
        self._spilled = False

    def add(self, shard: int, line: str) -> None:
        """`line` has no newline."""
        self._lines[shard].append(line)
        self._held += 1
        if self._held >= self._limit:
            self._write()

    def lines(self, shard: int) -> Iterator[str]:
        """Those added, in order."""
        if self._spilled and (path := self._path(shard)).exists():
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield line.rstrip("\n")
        yield from self._lines[shard]

    def _write(self) -> None:
        for shard, lines in enumerate(self._lines):
            if lines:
                with self._path(shard).open("a", encoding="utf-8") as file:
                    file.write("\n".join(lines) + "\n")
                lines.clear()
        self._held = 0
        self._spilled = True

    def _path(self, shard: int) -> Path:
        return self._directory / f"{shard:02x}"
