"""That what the documents say can be typed, and what they link to is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from registry.cli import main as registry
from registry.cli_collector import main as registry_gc

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]+)?\)")
COMMAND = re.compile(r"^\s*(?:\d )?[$#] ((?:.*&& )?registry(?:-gc)? .*)$", re.M)
RUNBOOKS = {
    *("auth", "collector", "errors", "moving", "restore"),
    *("rotation", "storage-full", "storage-slow", "switching", "upgrade"),
}


def names(documents: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in documents]


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_what_is_linked_is_there(document: Path) -> None:
    for path, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor[1:] in {_anchor(heading) for heading in headings}, path + anchor


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_command_exists_with_its_options(document: Path) -> None:
    for line in COMMAND.findall(document.read_text(encoding="utf-8")):
        for words in _ours(line):
            _require(words, line)


def _ours(line: str) -> Iterator[list[str]]:
    """The calls of our commands in a line of a shell, without what follows a redirection."""
    call: list[str] = []
    for word in [*shlex.split(line, comments=True), ";"]:
        ends = word in ("|", "&&", "||", ";")
        if ends or word.startswith((">", "<")):
            if call and call[0] in ("registry", "registry-gc"):
                yield call
            call = [] if ends else [word]
        else:
            call.append(word.rstrip(";"))


def _require(words: list[str], line: str) -> None:
    command: click.Command = registry if words[0] == "registry" else registry_gc
    rest = words[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    if words[0] == "registry-gc" and command is registry_gc:
        command = registry_gc.commands["collect"]
    if words[0] == "registry":
        assert command is not registry or rest[0] in ("-v", "--version", "-h", "--help"), line
    known = {option for each in command.params for option in each.opts}
    for word in rest:
        if word.startswith("-") and not re.fullmatch(r"-\d.*", word):
            assert word.split("=")[0] in known | {"-h", "--help"}, f"{word} in: {line}"


def test_the_run_books_that_alerts_lead_to_are_there() -> None:
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == RUNBOOKS
