"""YAML as maps, lists and scalars that remember how they were written, and where.

YAML gives the structure and the schema gives the types: a scalar stays the text that was typed, so
a secret `0123` or a name `yes` arrives as such, whatever YAML would make of it. Only the core tags
are known, nothing is ever constructed, and size, depth and the growth by aliases are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 32

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset({_CORE + t for t in ("str", "int", "float", "bool", "null")} | {"!"})
_MAP_TAGS = frozenset({_CORE + "map"})
_LIST_TAGS = frozenset({_CORE + "seq"})


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    origin: str
    plain: bool = True  # without quotes or a block indicator

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in _NULLS


@dataclass(slots=True)
class Map:
    entries: dict[str, Node]
    origin: str


@dataclass(slots=True)
class List:
    items: list[Node]
    origin: str


Node: TypeAlias = Scalar | Map | List


class NotYaml(Exception):
    """The text as a whole is unusable; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that is written twice in one map."""

    path: tuple[str, ...]
    first: str
    second: str


def parse(text: str, origin: str | None = None) -> tuple[Node, list[Duplicate]]:
    """The tree of one YAML document, and its keys that are written twice.

    Every node carries `origin`, or the line it stands on. Of two values of a key the last one
    counts; two maps are put together, so that what else is wrong in them is found. Raises NotYaml.
    """
    builder = _Builder(text, origin)
    return builder.document(), builder.duplicates


class _Builder:
    def __init__(self, text: str, origin: str | None) -> None:
        self._events: Iterator[yaml.Event] = iter(())
        self._text = text
        self._origin = origin
        self._anchors: dict[str, Node] = {}
        self._budget = MAX_NODES
        self.duplicates: list[Duplicate] = []

    def document(self) -> Node:
        try:
            self._events = yaml.parse(self._text, Loader=yaml.SafeLoader)
            next(self._events)  # the start of the stream
            event = next(self._events)
            if isinstance(event, yaml.StreamEndEvent):
                return Scalar("", self._origin or "line 1")
            root = self._node(next(self._events), (), 0)
            next(self._events)  # the end of the document
            if not isinstance(event := next(self._events), yaml.StreamEndEvent):
                raise self._error(event, "a second document begins here; keep one")
        except yaml.MarkedYAMLError as error:
            raise NotYaml(_describe(error)) from None
        except yaml.YAMLError as error:  # an unprintable character: no mark, but a position
            position = getattr(error, "position", 0)
            line = self._text.count("\n", 0, position) + 1
            raise NotYaml(f"line {line}: holds a character that YAML does not allow") from None
        except (ValueError, OverflowError):  # from PyYAML, for escapes such as "\UFFFFFFFF"
            raise NotYaml("holds an escape or a number that YAML does not allow") from None
        return root

    def _node(self, event: yaml.Event, path: tuple[str, ...], depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            target = self._anchors.get(event.anchor or "")
            if target is None:
                raise self._error(
                    event, "an alias (*) has no anchor (&) before it; quote the value if it is text"
                )
            return self._copy(target, event, depth)
        self._spend(event, depth)
        node: Node
        anchor: str | None = getattr(event, "anchor", None)
        if isinstance(event, yaml.ScalarEvent):
            self._check_tag(event, _SCALAR_TAGS)
            plain = event.style is None and event.tag in (None, _CORE + "null")
            node = Scalar(event.value, self._where(event), plain)
        elif isinstance(event, yaml.MappingStartEvent):
            self._check_tag(event, _MAP_TAGS)
            node = self._map(event, path, depth)
        else:  # the parser's grammar leaves nothing but the start of a sequence
            self._check_tag(event, _LIST_TAGS)
            node = self._list(event, path, depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _list(self, start: yaml.Event, path: tuple[str, ...], depth: int) -> List:
        result = List([], self._where(start))
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            result.items.append(self._node(event, (*path, str(len(result.items))), depth + 1))
        return result

    def _map(self, start: yaml.Event, path: tuple[str, ...], depth: int) -> Map:
        result = Map({}, self._where(start))
        merged: dict[str, Node] = {}
        written: dict[str, str] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, depth + 1)
            if not isinstance(key, Scalar):
                raise self._error(event, "a key is a map or a list; keys are text")
            value = self._node(next(self._events), (*path, key.text), depth + 1)
            if key.plain and key.text == "<<":
                for source in value.items if isinstance(value, List) else [value]:
                    if not isinstance(source, Map):
                        raise self._error(event, "'<<' merges maps, and this is none")
                    for name, inherited in source.entries.items():
                        merged.setdefault(name, inherited)
                continue
            if key.text in written:
                twice = Duplicate((*path, key.text), written[key.text], key.origin)
                self.duplicates.append(twice)
                earlier = result.entries[key.text]
                if isinstance(earlier, Map) and isinstance(value, Map):
                    value.entries = earlier.entries | value.entries
            written[key.text] = key.origin
            result.entries[key.text] = value
        for name, inherited in merged.items():
            result.entries.setdefault(name, inherited)
        return result

    def _copy(self, node: Node, event: yaml.Event, depth: int) -> Node:
        self._spend(event, depth)
        match node:
            case Scalar():
                return node
            case Map():
                copies = {k: self._copy(v, event, depth + 1) for k, v in node.entries.items()}
                return Map(copies, node.origin)
            case List():
                return List([self._copy(v, event, depth + 1) for v in node.items], node.origin)

    def _spend(self, event: yaml.Event, depth: int) -> None:
        self._budget -= 1
        if self._budget < 0:
            raise self._error(event, f"more than {MAX_NODES} values, aliases counted in full")
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep")

    def _check_tag(self, event: yaml.Event, known: frozenset[str]) -> None:
        tag: str | None = getattr(event, "tag", None)
        if tag is not None and tag not in known:
            raise self._error(event, "a tag (!) is not one a configuration may use; quote text")

    def _where(self, event: yaml.Event) -> str:
        return self._origin or f"line {_position(event.start_mark)[0]}"

    def _error(self, event: yaml.Event, sentence: str) -> NotYaml:
        line, column = _position(event.start_mark)
        return NotYaml(f"line {line}, column {column}: {sentence}")


def _position(mark: Any) -> tuple[int, int]:
    """Line and column from 1. PyYAML types a mark as one that may be missing."""
    return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)


def _describe(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's own words, without the excerpt of the text, which may hold a secret."""
    problem = error.problem or "cannot be read as YAML"
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces; indent with spaces"
    line, column = _position(error.problem_mark or error.context_mark)
    return f"line {line}, column {column}: {problem}"
