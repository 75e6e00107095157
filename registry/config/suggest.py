"""Which known name somebody meant who wrote an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 120  # comparing is quadratic, and no known name comes near


def nearest(word: str, candidates: Iterable[str], *, likeness: float = 0.7) -> str | None:
    """The candidate most like `word`, without regard to case, or None if none is alike enough."""
    folded: dict[str, str] = {}
    for candidate in candidates:
        folded.setdefault(candidate.casefold(), candidate)
    best = difflib.get_close_matches(word[:_LONGEST].casefold(), folded, n=1, cutoff=likeness)
    return folded[best[0]] if best else None


def nearest_key(path: tuple[str, ...], siblings: Iterable[str], known: Iterable[str]) -> str | None:
    """The dotted key meant by `path`, which is not one.

    A misspelling of a sibling comes first, then a key put into the wrong section, then whatever
    looks alike as a whole.
    """
    section, last = path[:-1], path[-1]
    sibling = nearest(last, siblings, likeness=0.6)  # they are few, and names are short
    if sibling is not None:
        return ".".join((*section, sibling))
    keys = _with_sections(known)
    ending = ".".join(path[-2:]).casefold()
    misplaced = [key for key in keys if key.casefold().endswith("." + ending)] or [
        key for key in keys if key.casefold().rpartition(".")[2] == last.casefold()
    ]
    if len(misplaced) == 1:
        return misplaced[0]
    return nearest(".".join(path), keys)


def _with_sections(keys: Iterable[str]) -> list[str]:
    every: dict[str, None] = {}
    for key in keys:
        parts = key.split(".")
        every.update((".".join(parts[:length]), None) for length in range(1, len(parts) + 1))
    return list(every)
