"""From a file and the environment to settings, or to everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from registry.config.checks import VERSION, check
from registry.config.environment import overlay
from registry.config.errors import ConfigError, Findings
from registry.config.fit import fit
from registry.config.settings import Settings
from registry.config.source import read
from registry.config.storage import DRIVERS, OTHER_DRIVERS
from registry.config.tree import Map, NotYaml, Scalar, parse


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    warnings: tuple[str, ...]
    source: str


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """The configuration in the file `path`, or the default one, under the variables of `environ`.

    Reads nothing but that file. Raises ConfigError, and nothing else, with every problem there is.
    """
    text, source = read(path, environ)
    findings = Findings()
    root = Map({}, source) if text is None else _root(text, source, findings)
    overlay(root, environ, findings)
    plain = fit(root, findings)
    if text is None:
        _add_built_in(plain)
    check(plain, findings)
    settings = _validate(plain, findings)
    if settings is None or findings.problems:
        raise ConfigError(source, findings.problems, findings.warnings)
    return Loaded(settings, tuple(findings.warnings), source)


def _root(text: str, source: str, findings: Findings) -> Map:
    try:
        node, duplicates = parse(text)
    except NotYaml as error:
        raise ConfigError(source, [f"{error}."]) from None
    if isinstance(node, Scalar) and node.is_null:
        node = Map({}, "line 1")
    if not isinstance(node, Map):
        raise ConfigError(
            source, [f"is not a map of keys to values; begin it with 'version: {VERSION}'."]
        )
    for duplicate in duplicates:
        findings.problem(
            duplicate.path,
            f"is written twice, on {duplicate.first} and {duplicate.second}; keep one",
        )
    return node


def _add_built_in(plain: dict[str, Any]) -> None:
    """What a registry without a file does: it serves ./registry-data, to this machine alone."""
    plain.setdefault("version", VERSION)
    plain.setdefault("http", {}).setdefault("addr", "127.0.0.1:5000")
    storage = plain.setdefault("storage", {})
    storage.setdefault("delete", {}).setdefault("enabled", "true")
    if not any(driver in storage for driver in (*DRIVERS, *OTHER_DRIVERS)):
        storage["filesystem"] = {}
    if "filesystem" in storage:
        storage["filesystem"].setdefault("rootdirectory", "registry-data")


def _validate(plain: dict[str, Any], findings: Findings) -> Settings | None:
    try:
        return Settings.model_validate(plain)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            cause = item.get("ctx", {}).get("error")
            sentence = str(cause) if isinstance(cause, ValueError) else item["msg"]
            findings.problem(tuple(str(part) for part in item["loc"]), sentence)
        return None
