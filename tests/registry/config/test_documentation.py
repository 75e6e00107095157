"""docs/configuration.md names every key there is, and none that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from registry.config.section import (
    Branch,
    ListOf,
    MapOf,
    Section,
    children,
    known_keys,
    variable_of,
)
from registry.config.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `(?P<key>[^`]+)` \|(?P<rest>.*)\|$", re.MULTILINE)


def _rows() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in ROW.finditer(DOCUMENT.read_text(encoding="utf-8")):
        assert row["key"] not in found, f"{row['key']} is documented twice"
        found[row["key"]] = [cell.strip().strip("`") for cell in row["rest"].split("|")]
    return found


def _defaults(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    dumped = section().model_dump(mode="json")
    for name, shape in children(section).items():
        key = prefix + name
        match shape:
            case Branch(inner) if children(inner):
                yield from _defaults(inner, f"{key}.")
            case ListOf(Branch(inner)):
                yield from _defaults(inner, f"{key}.<n>.")
            case Branch() | MapOf():
                continue
            case _:
                yield key, dumped[name]


def _as_documented(value: Any) -> str:
    if value is None or value == "" or value == []:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    assert sorted(_rows()) == sorted(known_keys(Settings))


def test_every_key_has_its_variable_beside_it() -> None:
    for key, cells in _rows().items():
        assert (variable_of(key) in cells) is (key != "version"), key


def test_documented_defaults_are_those_of_the_schema() -> None:
    rows = {key: cells for key, cells in _rows().items() if len(cells) == 4}
    defaults = dict(_defaults(Settings))
    assert len(rows) > 80
    for key, (default, *_) in rows.items():
        assert default == _as_documented(defaults.get(key)), key


def test_every_row_of_a_full_table_says_something() -> None:
    for key, cells in _rows().items():
        if len(cells) == 4:
            assert cells[2].endswith((".", ")")), key
            assert cells[3] in ("Distribution", "ours", "Distribution, deprecated"), key
