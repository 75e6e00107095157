"""Lays REGISTRY_* variables over a configuration, by Distribution's rules.

    REGISTRY_HTTP_ADDR=:5001                    http.addr
    REGISTRY_STORAGE=inmemory                   the whole section, replaced by that one driver
    REGISTRY_HTTP_TRUSTEDPROXIES_0=10.0.0.0/8   the first item of a list; the next free index appends

Variables are applied in the order of their names, so one for a section comes before those for what
is in it. Names are matched without regard to case, a name in a map that is not there yet is created
in lower case, and values are YAML. Where the schema has text, a value is that text as typed, also
if YAML would see a number, a comment or a map in it; quotes around all of it are taken off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from registry.config.errors import Findings, dotted
from registry.config.fit import unfold
from registry.config.section import (
    ANY_INDEX,
    Branch,
    Free,
    Leaf,
    ListOf,
    MapOf,
    Shape,
    child_by_variable,
    children,
    known_keys,
    variable_of,
)
from registry.config.settings import Settings
from registry.config.source import PATH_VARIABLE
from registry.config.suggest import nearest
from registry.config.tree import List, Map, Node, NotYaml, Scalar, parse

PREFIX: Final = "REGISTRY_"

_NOT_OURS = re.compile(
    # what Kubernetes and Docker set for a service that is called "registry"
    r"REGISTRY_(?:PORT|PORT_\d+_(?:TCP|UDP)(?:_(?:ADDR|PORT|PROTO))?|SERVICE_HOST|SERVICE_PORT(?:_.*)?)"
    rf"|{PATH_VARIABLE}",
    re.DOTALL,
)
_INDEX = re.compile(r"\d{1,6}", re.ASCII)


def overlay(root: Map, environ: Mapping[str, str], findings: Findings) -> None:
    """Change `root` as the variables say. A variable that fits nowhere is warned of."""
    for name in sorted(environ):
        if not name.startswith(PREFIX) or _NOT_OURS.fullmatch(name):
            continue
        path = name.removeprefix(PREFIX).lower().split("_")
        if path == ["version"]:
            findings.warn_variable(name, "a variable cannot set the version, and is ignored")
            continue
        variable = _Variable(name, environ[name])
        try:
            variable.set(Branch(Settings), root, path)
        except _NoSuchKey:
            _warn_unknown(name, findings)
        except _Wrong as wrong:
            findings.problem_variable(name, str(wrong))


class _NoSuchKey(Exception):
    pass


class _Wrong(Exception):
    pass


class _Variable:
    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._origin = f"from {name}"

    def set(self, shape: Shape, node: Node | None, path: list[str]) -> Node:
        """`node` with the value at `path` below it; nothing is changed if that fails.

        Raises _NoSuchKey or _Wrong.
        """
        if not path:
            return self._value(shape)
        match shape:
            case Branch(section):
                found = unfold(section, node, self._origin)
                if found is None:
                    raise _Wrong("the section it belongs to is not a map")
                key = child_by_variable(section, path[0])
                if key is None and section.closed:
                    key = path[0]  # so that it is refused, and not ignored
                if key is None:
                    raise _NoSuchKey
                child = children(section).get(key, Free())
                found.entries[key] = self.set(child, found.entries.get(key), path[1:])
                return found
            case MapOf(item):
                return self._set_in_map(item, node, path)
            case ListOf(item):
                return self._set_in_list(item, node, path)
            case Free():
                if isinstance(node, List):
                    return self._set_in_list(shape, node, path)
                return self._set_in_map(shape, node if isinstance(node, Map) else None, path)
            case Leaf():
                raise _NoSuchKey

    def _set_in_map(self, item: Shape, node: Node | None, path: list[str]) -> Node:
        if not path[0]:
            raise _NoSuchKey
        if node is None or (isinstance(node, Scalar) and node.is_null):
            node = Map({}, self._origin)
        if not isinstance(node, Map):
            raise _Wrong("what it belongs to is not a map")
        key = next((key for key in node.entries if key.lower() == path[0]), path[0])
        node.entries[key] = self.set(item, node.entries.get(key), path[1:])
        return node

    def _set_in_list(self, item: Shape, node: Node | None, path: list[str]) -> Node:
        if node is None or (isinstance(node, Scalar) and node.is_null):
            node = List([], self._origin)
        elif isinstance(node, Scalar) and not isinstance(item, Branch):
            node = List([node], node.origin)
        if not isinstance(node, List):
            raise _Wrong("what it belongs to is not a list")
        length = len(node.items)
        if not _INDEX.fullmatch(path[0]):
            raise _Wrong(f"{path[0]!r} is not an index; the list is numbered from 0")
        index = int(path[0])
        if index > length:
            raise _Wrong(f"index {index} leaves a gap; the next free one is {length}")
        if index == length:
            node.items.append(self.set(item, None, path[1:]))
        else:
            node.items[index] = self.set(item, node.items[index], path[1:])
        return node

    def _value(self, shape: Shape) -> Node:
        try:
            node, duplicates = parse(self._text, self._origin)
        except NotYaml as error:
            if isinstance(shape, Leaf):
                return self._as_typed()
            raise _Wrong(f"the value is not YAML: {error}") from None
        if duplicates:
            raise _Wrong(f"{dotted(duplicates[0].path)} is written twice; keep one")
        if not isinstance(shape, Leaf):
            return node
        if isinstance(node, Scalar) and (
            not (node.plain and shape.text) or (node.is_null and node.text == self._text.strip())
        ):
            return node
        return self._as_typed()

    def _as_typed(self) -> Scalar:
        return Scalar(self._text.strip(), self._origin, plain=False)


def _warn_unknown(name: str, findings: Findings) -> None:
    known = (variable_of(key.replace(ANY_INDEX, "0")) for key in known_keys(Settings))
    ours = [variable.removeprefix(PREFIX) for variable in known if "<" not in variable]
    meant = nearest(name.removeprefix(PREFIX), ours)
    hint = f"; the nearest one is {PREFIX}{meant}" if meant else ""
    findings.warn_variable(name, f"is not a variable this registry knows, and is ignored{hint}")
