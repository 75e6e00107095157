"""Strict reading of a small YAML file: everything that is wrong at once, each with its line.

Only YAML's structure is used. A scalar is the text that was typed, so a user `0123` or a group `yes`
is called that, and nothing is ever constructed from a tag.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import yaml

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_LIMIT = 200_000  # values, those behind aliases counted each time
_FOUND_LIMIT = 50
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class Invalid(Exception):
    """`problems` says everything that is wrong, each with its line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = tuple(problems)


@dataclass(slots=True)
class Document:
    """A sentence for a problem is given without its line and its full stop."""

    root: yaml.Node
    problems: list[str] = field(default_factory=list)
    _left: int = _LIMIT

    def problem(self, node: yaml.Node, sentence: str) -> None:
        if len(self.problems) < _FOUND_LIMIT:
            self.problems.append(f"line {line(node)}: {sentence}.")

    def finish(self) -> None:
        """Raises Invalid if there was a problem."""
        if self.problems:
            raise Invalid(self.problems)

    def entries(self, node: yaml.Node, what: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """A map's keys to the nodes of key and value; of two like keys both are a problem."""
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what} is to be a map of keys and values")
            return found
        if not self._spend(node, len(node.value)):
            return found
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, "a key is to be text")
            elif key.value in found:
                first = line(found[key.value][0])
                self.problem(
                    key, f"{shown(key.value)} is written already on line {first}; keep one"
                )
            else:
                found[key.value] = (key, value)
        return found

    def section(
        self, node: yaml.Node, what: str, known: Collection[str], required: Collection[str] = ()
    ) -> Mapping[str, yaml.Node]:
        """A map of which the keys are known."""
        entries = self.entries(node, what)
        for name, (key, _) in entries.items():
            if name not in known:
                self.problem(
                    key, f"{shown(name)} is not a key of {what}; {suggestion(name, known)}"
                )
        if isinstance(node, yaml.MappingNode):
            for name in required:
                if name not in entries:
                    self.problem(node, f"{what} lacks {name!r}")
        return {name: value for name, (_, value) in entries.items() if name in known}

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        """A list's items; a single value that is no list counts as a list of one."""
        if isinstance(node, yaml.SequenceNode):
            if not node.value:
                self.problem(node, f"{what} is empty")
            return list(node.value) if self._spend(node, len(node.value)) else []
        if isinstance(node, yaml.ScalarNode) and is_null(node):
            self.problem(node, f"{what} is empty")
            return []
        return [node]

    def text(self, node: yaml.Node, what: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, f"{what} is to be text")
        elif is_null(node):
            self.problem(node, f"{what} is empty")
        elif not node.value.isprintable():
            self.problem(node, f"{what} has characters that cannot be printed")
        else:
            return str(node.value)
        return None

    def flag(self, node: yaml.Node, what: str) -> bool:
        value = self.text(node, what)
        if value is None or value.lower() in _FALSE:
            return False
        if value.lower() not in _TRUE:
            self.problem(node, f"{what} is to be true or false, not {shown(value)}")
        return True

    def _spend(self, node: yaml.Node, count: int) -> bool:
        self._left -= count
        if self._left < 0:
            self.problem(node, f"more than {_LIMIT} values, aliases counted in full")
        return self._left >= 0


def compose(data: bytes) -> Document:
    """Raises Invalid if the text is no YAML document."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise Invalid([f"line {number}: is not UTF-8; save the file as UTF-8."]) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise Invalid([f"{where}{error.problem or 'cannot be read as YAML'}."]) from None
    except yaml.YAMLError as error:  # an unprintable character: no mark, but a position
        number = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise Invalid([f"line {number}: holds a character that YAML does not allow."]) from None
    except RecursionError:
        raise Invalid(["is nested too deep."]) from None
    except (ValueError, OverflowError):  # from PyYAML, for escapes such as "\UFFFFFFFF"
        raise Invalid(["holds an escape that YAML does not allow."]) from None
    if root is None:
        raise Invalid(["is empty."])
    return Document(root)


def line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1 if node.start_mark is not None else 1


def is_null(node: yaml.ScalarNode) -> bool:
    return node.style is None and node.value in _NULLS


def suggestion(word: str, known: Collection[str]) -> str:
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word[:80].casefold(), folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]!r}?".removesuffix("?")
    return f"it is one of {', '.join(known)}"


def shown(text: str) -> str:
    """Text of the file, on one line and not too long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
