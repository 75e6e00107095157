"""Fits a tree of YAML to the schema: what is left is text in the places where the schema has keys.

Unknown keys are warned of and left out. What stands in a wrong shape is a problem, and is left out
too, so that everything else can still be checked.
"""

from __future__ import annotations

from typing import Any

from registry.config.errors import Findings, KeyPath, dotted
from registry.config.section import (
    CHOICE,
    Branch,
    Free,
    Leaf,
    ListOf,
    MapOf,
    Section,
    Shape,
    children,
    known_keys,
)
from registry.config.settings import Settings
from registry.config.suggest import nearest_key
from registry.config.tree import List, Map, Node, Scalar


class _Unfit(Exception):
    """Reported already."""


def fit(root: Map, findings: Findings) -> dict[str, Any]:
    """Nested dictionaries and lists of text. Notes in `findings` where each value was written."""
    fitted = _section(Settings, root, (), findings)
    return {} if fitted is None else fitted


def unfold(section: type[Section], node: Node | None, origin: str) -> Map | None:
    """The map that a section's node stands for, or None if it cannot be one.

    Nothing at all is an empty section; a scalar is what the section says a scalar means.
    """
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return Map({}, origin if node is None else node.origin)
    if isinstance(node, Map):
        return node
    if isinstance(node, Scalar) and section.scalar_sets is not None:
        if section.scalar_sets == CHOICE:
            return Map({node.text: Map({}, node.origin)}, node.origin)
        return Map({section.scalar_sets: node}, node.origin)
    return None


def loosen(node: Node) -> Any:
    """A free-form value, every scalar as its text."""
    match node:
        case Scalar():
            return None if node.is_null else node.text
        case Map():
            return {key: loosen(value) for key, value in node.entries.items()}
        case List():
            return [loosen(value) for value in node.items]


def _section(
    section: type[Section], node: Node, path: KeyPath, findings: Findings
) -> dict[str, Any] | None:
    found = unfold(section, node, node.origin)
    if found is None:
        some = ", ".join(list(children(section))[:4])
        findings.problem(path, f"must be a map of keys, such as {some}")
        return None
    fitted: dict[str, Any] = {}
    for key, value in found.entries.items():
        below = (*path, key)
        findings.origins[below] = value.origin
        shape = children(section).get(key)
        if shape is None:
            _unknown(section, below, findings)
        elif not _is_unset(shape, value):
            try:
                fitted[key] = _value(shape, value, below, findings)
            except _Unfit:
                continue
    return fitted


def _value(shape: Shape, node: Node, path: KeyPath, findings: Findings) -> Any:
    match shape:
        case Branch(section):
            fitted = _section(section, node, path, findings)
            if fitted is None:
                raise _Unfit
            return fitted
        case MapOf(item):
            return _map(item, node, path, findings)
        case ListOf(item):
            return _list(item, node, path, findings)
        case Leaf():
            if not isinstance(node, Scalar):
                kind = "map" if isinstance(node, Map) else "list"
                findings.problem(path, f"must be a single value, not a {kind}")
                raise _Unfit
            return node.text
        case Free():
            return loosen(node)


def _map(item: Shape, node: Node, path: KeyPath, findings: Findings) -> dict[str, Any]:
    if isinstance(node, Scalar) and node.is_null:
        return {}
    if not isinstance(node, Map):
        findings.problem(path, "must be a map of names to values")
        raise _Unfit
    fitted = {}
    for name, value in node.entries.items():
        findings.origins[(*path, name)] = value.origin
        if not _is_unset(item, value):
            try:
                fitted[name] = _value(item, value, (*path, name), findings)
            except _Unfit:
                continue
    return fitted


def _list(item: Shape, node: Node, path: KeyPath, findings: Findings) -> list[Any]:
    if isinstance(node, Scalar) and not isinstance(item, Branch):
        node = List([] if node.is_null else [node], node.origin)  # one value needs no brackets
    if not isinstance(node, List):
        findings.problem(path, "must be a list")
        raise _Unfit
    fitted = []
    for index, value in enumerate(node.items):
        below = (*path, str(index))
        findings.origins[below] = value.origin
        if _is_unset(item, value):
            findings.problem(below, "is empty; remove it from the list")
            continue
        try:
            fitted.append(_value(item, value, below, findings))
        except _Unfit:
            continue
    return fitted


def _is_unset(shape: Shape, node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null and isinstance(shape, Leaf | Free)


def _unknown(section: type[Section], path: KeyPath, findings: Findings) -> None:
    siblings = children(section)
    if section.closed:
        findings.problem(
            path,
            f"is not a kind this registry knows ({', '.join(siblings)}), and to ignore it would "
            f"leave the registry open; remove {dotted(path)}",
        )
        return
    meant = nearest_key(path, siblings, known_keys(Settings))
    hint = f"; the nearest one is {meant}" if meant else ""
    findings.warn(path, f"is not a key this registry knows, and is ignored{hint}")
