"""How a configuration is refused, and how everything found in it is gathered and worded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from registry.config.section import variable_of

KeyPath: TypeAlias = tuple[str, ...]


class ConfigError(Exception):
    """The configuration cannot be used; `problems` says everything that is wrong, a line each."""

    def __init__(self, source: str, problems: Sequence[str], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(problems))
        self.source = source
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


@dataclass(slots=True)
class Findings:
    """Problems and warnings of one configuration, with where each value was written.

    A sentence is given without its full stop; it follows the name of the key.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    _blamed: set[KeyPath] = field(default_factory=set)

    def problem(self, path: KeyPath, sentence: str) -> None:
        self._blamed.add(path)
        self.problems.append(self._line(path, _with_variable(path, sentence)))

    def warn(self, path: KeyPath, sentence: str) -> None:
        self.warnings.append(self._line(path, sentence))

    def warn_variable(self, name: str, sentence: str) -> None:
        self.warnings.append(f"{printable(name)}: {sentence}.")

    def problem_variable(self, name: str, sentence: str) -> None:
        self.problems.append(f"{printable(name)}: {sentence}.")

    def blames(self, *path: str) -> bool:
        """Whether something at, above or below `path` is wrong already."""
        return any(
            blamed[: len(path)] == path or path[: len(blamed)] == blamed for blamed in self._blamed
        )

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at `path` was written, or the nearest thing around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None

    def _line(self, path: KeyPath, sentence: str) -> str:
        origin = self.origin(path)
        where = f" ({origin})" if origin else ""
        return f"{dotted(path)}: {sentence}{where}."


def _with_variable(path: KeyPath, sentence: str) -> str:
    """What is missing is often what a file of variables was to set."""
    if not sentence.startswith("is missing") or path == ("version",):
        return sentence
    return f"{sentence}; its variable is {variable_of('.'.join(path))}"


def dotted(path: KeyPath) -> str:
    return ".".join(printable(part) for part in path) or "the configuration"


def printable(name: str) -> str:
    """A name from outside, so that it stays on one line."""
    short = name if len(name) <= 200 else name[:197] + "..."
    return short if short.isprintable() and short else repr(short)
