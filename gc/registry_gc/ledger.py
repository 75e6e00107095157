"""What is condemned, and since when: lists for the collector, filters for the nodes.

Both are written in the order of shards and never changed; a publication names those that count. A list
says for each entry when it was first condemned, by the store's clock, which outlives the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from registry_gc.spill import SHARDS
from storage import layout
from storage.collection import bloom, entries
from storage.collection.bloom import Bloom, Members
from storage.collection.entries import Entry
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.errors import DigestInvalid, NameInvalid

LIST_LENGTH = 100_000


class Condemned:
    """Reads the lists of publications, one shard after the other."""

    def __init__(self, driver: Driver, keys: Iterable[str]) -> None:
        """Raises ValueError for keys that no Ledger made."""
        self._driver = driver
        self._keys = {key: _span(key) for key in keys}
        self._open: dict[str, dict[int, dict[Entry, float]]] = {}

    def shard(self, shard: int) -> dict[Entry, float]:
        """When each was first condemned: by whichever list has it earliest."""
        found: dict[Entry, float] = {}
        for key, (first, last) in self._keys.items():
            if not first <= shard <= last:
                self._open.pop(key, None)
                continue
            if key not in self._open:
                self._open[key] = self._read(key)
            for entry, since in self._open[key].get(shard, {}).items():
                found[entry] = min(since, found.get(entry, since))
        return found

    def _read(self, key: str) -> dict[int, dict[Entry, float]]:
        """A list that is gone was superseded: who did that has taken over what was in it."""
        try:
            content = self._driver.read(key).decode()
        except ObjectNotFound:
            return {}
        by_shard: dict[int, dict[Entry, float]] = {}
        for line in content.splitlines():
            entry, _, since = line.rpartition(" ")
            with suppress(ValueError, DigestInvalid, NameInvalid):  # of a newer version
                by_shard.setdefault(entries.parse(entry).shard, {})[entry] = float(since)
        return by_shard


class Ledger:
    """Writes the lists and filters of one publication: add() in the order of shards, then close()."""

    def __init__(self, driver: Driver, run: str, generation: int) -> None:
        self._driver = driver
        self._name = f"{generation:04d}"
        self._run = run
        self._first = 0
        self._lines: list[str] = []
        self._pending = Members()
        self.lists: list[str] = []
        self.filters: list[str] = []
        self.count = 0
        self.oldest = float("inf")

    def add(self, shard: int, condemned: Mapping[Entry, float]) -> None:
        for entry, since in sorted(condemned.items()):
            self._lines.append(f"{entry} {since!r}")
            self._pending.add(entry)
            self.count += 1
            self.oldest = min(self.oldest, since)
        if len(self._lines) >= LIST_LENGTH:
            self._write_list(shard)
        if len(self._pending) >= bloom.LARGEST:
            self._write_filter()

    def close(self) -> None:
        if self._lines:
            self._write_list(SHARDS - 1)
        if self._pending:
            self._write_filter()

    def _write_list(self, last: int) -> None:
        name = f"list-{self._name}-{self._first:02x}-{last:02x}"
        key = layout.of_run(self._run, name)
        self._driver.write(key, "\n".join(self._lines).encode())
        self.lists.append(key)
        self._lines.clear()
        self._first = last + 1

    def _write_filter(self) -> None:
        key = layout.of_run(self._run, f"filter-{self._name}-{len(self.filters)}")
        made = Bloom.of(self._pending)
        self._driver.write(key, bytes(made.content))
        self.filters.append(key)
        self._pending.clear()


def _span(key: str) -> tuple[int, int]:
    _, _, first, last = key.rpartition("/")[2].split("-")
    return int(first, 16), int(last, 16)
