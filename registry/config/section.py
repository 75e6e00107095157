"""A section of the configuration, and the shape of the schema made of sections.

Attributes are Distribution's keys in lower case, so the schema is its own list of known keys. A
shape says what YAML may stand at a key; what its scalars mean is left to the annotated types.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final, TypeAlias

from pydantic import BaseModel, ConfigDict

ANY_NAME: Final = "<name>"
ANY_INDEX: Final = "<n>"


class Section(BaseModel):
    """Frozen. Keys that are no attribute never reach it: they are reported before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scalar_sets: ClassVar[str | None] = None
    """What a plain scalar in place of the section means: it is the value of this key, or with
    CHOICE the name of the one that is chosen, with nothing further."""

    closed: ClassVar[bool] = False
    """An unknown key is a problem, not a warning: to ignore it would be dangerous."""

    variables: ClassVar[Mapping[str, str]] = {}
    """Keys by further names in variables: Distribution matches the names of its Go fields."""


CHOICE: Final = "*"


@dataclass(frozen=True, slots=True)
class Branch:
    section: type[Section]


@dataclass(frozen=True, slots=True)
class Leaf:
    text: bool  # the scalar is kept as typed, rather than read as a number, a switch or the like


@dataclass(frozen=True, slots=True)
class MapOf:
    item: Shape


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Shape


@dataclass(frozen=True, slots=True)
class Free:
    """Anything, kept as written."""


Shape: TypeAlias = Branch | Leaf | MapOf | ListOf | Free


@cache
def children(section: type[Section]) -> Mapping[str, Shape]:
    """The shape at every key of a section, in the order of its declaration."""
    return {name: _shape(info.annotation) for name, info in section.model_fields.items()}


def child_by_variable(section: type[Section], element: str) -> str | None:
    """The key that one element of a variable's name, in lower case, stands for."""
    key = section.variables.get(element, element)
    return key if key in children(section) else None


def known_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Every dotted key below `section` that takes a value, with ANY_NAME and ANY_INDEX."""
    for name, shape in children(section).items():
        yield from _keys(shape, f"{prefix}{name}")


def variable_of(key: str) -> str:
    """The environment variable of a dotted key."""
    return "REGISTRY_" + key.replace(".", "_").upper()


def _keys(shape: Shape, key: str) -> Iterator[str]:
    match shape:
        case Branch(section) if children(section):
            yield from known_keys(section, f"{key}.")
        case MapOf(item):
            yield from _keys(item, f"{key}.{ANY_NAME}")
        case ListOf(Branch() as item):
            yield from _keys(item, f"{key}.{ANY_INDEX}")
        case _:
            yield key


def _shape(annotation: Any) -> Shape:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _shape(arguments[0])
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _shape(inner)
    if origin is list:
        return ListOf(_shape(arguments[0]))
    if origin is dict:
        return MapOf(_shape(arguments[1]))
    if annotation is Any:
        return Free()
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Branch(annotation)
    return Leaf(text=annotation not in (bool, int, float))
