"""The words that the entry point of Distribution's image takes, taken by ours."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from registry.cli import main
from registry.cli_image import ANONYMOUS
from registry.config import Loaded, source

Run = Callable[..., Result]
OPEN = "version: 0.1\nstorage: inmemory\n"
LOCAL = OPEN + "http: {addr: '127.0.0.1:5000'}\n"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Loaded]:
    """What would have been served."""
    calls: list[Loaded] = []

    def serve(loaded: Loaded) -> int:
        calls.append(loaded)
        return 0

    wiring = types.ModuleType("registry.wiring")
    wiring.__dict__["serve"] = serve
    monkeypatch.setitem(sys.modules, "registry.wiring", wiring)
    return calls


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[Loaded]) -> Run:
    """Runs the command where config.yml is the file that an image has."""
    (tmp_path / "config.yml").write_text(LOCAL)
    (tmp_path / "other.yaml").write_text(LOCAL)
    monkeypatch.setattr(source, "DEFAULT_PATHS", (tmp_path / "config.yml",))
    monkeypatch.chdir(tmp_path)

    def runner(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(main, arguments, env=environ)

    return runner


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (("serve", "config.yml"), "config.yml"),
        (("config.yml",), "config.yml"),
        (("other.yaml",), "other.yaml"),
        (("registry", "serve", "other.yaml"), "other.yaml"),
        (("/bin/registry", "serve", "other.yaml"), "other.yaml"),
        (("registry", "other.yaml"), "other.yaml"),
        (("serve",), None),
    ],
)
def test_the_words_of_the_other_image_serve(
    run: Run, served: list[Loaded], tmp_path: Path, arguments: tuple[str, ...], file: str | None
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.output) == (0, "")
    assert [loaded.source for loaded in served] == [file or str(tmp_path / "config.yml")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("registry", "garbage-collect", "--help"),
        ("garbage-collect", "--help"),
        ("registry", "--version"),
        ("--version",),
    ],
)
def test_its_other_commands_keep_their_names(
    run: Run, served: list[Loaded], arguments: tuple[str, ...]
) -> None:
    assert run(*arguments).exit_code == 0
    assert not served


def test_a_missing_file_is_named(run: Run, served: list[Loaded]) -> None:
    result = run("absent.yml")
    assert result.exit_code == 2
    assert result.stderr.startswith("absent.yml: ")
    assert not served


@pytest.mark.parametrize("arguments", [("registry",), ("registry", "registry", "serve"), ("sh",)])
def test_what_is_no_command_is_a_usage_error(
    run: Run, served: list[Loaded], arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "No such command" in result.stderr
    assert not served


def test_the_image_may_be_reached_and_says_so(
    run: Run, served: list[Loaded], tmp_path: Path
) -> None:
    (tmp_path / "config.yml").write_text(OPEN)
    result = run("serve", **{ANONYMOUS: "true"})
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'config.yml'}: warning: ")
    assert line.endswith(f"{ANONYMOUS} allows it.")
    assert run("serve", "--insecure-anonymous", **{ANONYMOUS: "true"}).stderr == ""
    assert len(served) == 2


@pytest.mark.parametrize("said", ["false", "0", ""])
def test_the_image_can_be_told_to_refuse(
    run: Run, served: list[Loaded], tmp_path: Path, said: str
) -> None:
    (tmp_path / "config.yml").write_text(OPEN)
    result = run("serve", **{ANONYMOUS: said})
    assert result.exit_code == 2
    assert "anyone who reaches this port" in result.stderr
    assert not served
