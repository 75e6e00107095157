"""The `registry` command: what it prints where, and its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from registry.cli import main
from registry.config import Loaded, source

MINIMAL = "version: 0.1\nstorage: inmemory\n"
LOCAL = MINIMAL + "http: {addr: '127.0.0.1:5000'}\n"

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with these arguments, under these variables and no others of the registry's."""
    monkeypatch.setattr(source, "DEFAULT_PATHS", (tmp_path / "absent.yml",))
    for name in [name for name in os.environ if name.startswith("REGISTRY_")]:
        monkeypatch.delenv(name)

    def runner(*arguments: str | Path, **environ: str) -> Result:
        return CliRunner().invoke(main, [str(part) for part in arguments], env=environ)

    return runner


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Loaded]:
    """What registry.wiring.serve was called with; it answers 7 for as long as nothing is in it."""
    calls: list[Loaded] = []

    def serve(loaded: Loaded) -> int:
        calls.append(loaded)
        return 7

    wiring = types.ModuleType("registry.wiring")
    wiring.__dict__["serve"] = serve
    monkeypatch.setitem(sys.modules, "registry.wiring", wiring)
    return calls


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes registry.wiring.serve raise."""

    def prepare(error: BaseException) -> None:
        def serve(loaded: Loaded) -> int:
            raise error

        wiring = types.ModuleType("registry.wiring")
        wiring.__dict__["serve"] = serve
        monkeypatch.setitem(sys.modules, "registry.wiring", wiring)

    return prepare


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_serve_hands_the_configuration_over_and_exits_with_its_answer(
    run: Run, served: list[Loaded], tmp_path: Path
) -> None:
    path = _write(tmp_path, LOCAL + "redis: {db: 1}\nhtpp: {}\n")
    result = run("serve", path)
    assert result.exit_code == 7
    assert result.stdout == ""
    assert [loaded.source for loaded in served] == [str(path)]
    assert result.stderr.splitlines() == [
        f"{path}: warning: htpp: is not a key this registry knows, and is ignored; the nearest one is "
        "http (line 5).",
        f"{path}: warning: redis: has no effect in this version: every worker keeps its own cache in "
        "memory (line 4).",
    ]


def test_serve_without_a_file_uses_the_built_in_defaults(run: Run, served: list[Loaded]) -> None:
    result = run("serve")
    assert (result.exit_code, result.stderr) == (7, "")
    assert served[0].source == "built-in defaults"
    assert served[0].settings.http.addr == "127.0.0.1:5000"


def test_serve_reads_the_environment(run: Run, served: list[Loaded]) -> None:
    assert run("serve", REGISTRY_HTTP_ADDR="127.0.0.1:1").exit_code == 7
    assert served[0].settings.http.addr == "127.0.0.1:1"


@pytest.mark.parametrize("command", [("serve",), ("config", "check")])
def test_every_problem_is_a_line_on_stderr(
    run: Run, served: list[Loaded], tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = _write(tmp_path, MINIMAL + "http: {addr: x, draintimeout: 5, adr: y}\n")
    result = run(*command, path, REGISTRY_HTTP_WORKERS="many")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    keys = sorted(re.sub(r"^.*?: (?:warning: )?([a-z.]+): .*$", r"\1", line) for line in lines)
    assert keys == ["http.addr", "http.adr", "http.draintimeout", "http.workers"]
    assert not served


def test_serve_refuses_to_be_open_to_strangers(
    run: Run, served: list[Loaded], tmp_path: Path
) -> None:
    path = _write(tmp_path, MINIMAL + "http: {addr: ':5000'}\n")
    result = run("serve", path)
    assert result.exit_code == 2
    assert "anyone who reaches this port could pull and push" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not served
    assert run("serve", path, "--insecure-anonymous").exit_code == 7
    assert run("serve", "--insecure-anonymous", path).exit_code == 7
    assert len(served) == 2


def test_config_check_prints_the_effective_configuration(run: Run, tmp_path: Path) -> None:
    result = run("config", "check", _write(tmp_path, LOCAL), REGISTRY_HTTP_SECRET="hunter2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("version: 0.1\n")
    assert "  addr: 127.0.0.1:5000\n" in result.stdout
    assert "  secret: '********'\n" in result.stdout
    assert "hunter2" not in result.output


def test_config_check_warns_of_what_serve_would_refuse(run: Run, tmp_path: Path) -> None:
    path = _write(tmp_path, MINIMAL)
    result = run("config", "check", path)
    assert result.exit_code == 0
    assert result.stdout.startswith("version: 0.1\n")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{path}: warning: registry serve refuses this: http.addr is :5000")


@pytest.mark.parametrize("option", ["-v", "--version"])
def test_version(run: Run, option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    assert re.fullmatch(r"registry holdfast \d+\.\d+\.\d+\S*\n", result.stdout)


@pytest.mark.parametrize(
    "arguments", [("garbage",), ("serve", "a", "b"), ("serve", "--nope"), ("config", "x")]
)
def test_a_wrong_command_line_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


def test_what_nobody_expected_is_one_line(run: Run, fails: Callable[[BaseException], None]) -> None:
    fails(RuntimeError("the sky\nfell"))
    result = run("serve")
    assert result.exit_code == 1
    assert result.stderr == (
        "registry: RuntimeError: the sky fell (set REGISTRY_LOG_LEVEL=debug for the traceback)\n"
    )


def test_the_traceback_is_there_for_the_asking(
    run: Run, fails: Callable[[BaseException], None]
) -> None:
    fails(RuntimeError("the sky fell"))
    result = run("serve", REGISTRY_LOG_LEVEL="Debug")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("registry: RuntimeError: the sky fell\n")


def test_an_interruption_has_its_exit_code(
    run: Run, fails: Callable[[BaseException], None]
) -> None:
    fails(KeyboardInterrupt())
    result = run("serve")
    assert (result.exit_code, result.output) == (130, "")


def _environment(tmp_path: Path) -> dict[str, str]:
    """Of the machine, with a configuration of our own."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("REGISTRY_")}
    return kept | {"REGISTRY_CONFIGURATION_PATH": str(_write(tmp_path, LOCAL))}


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "registry.cli", "config", "check"],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=_environment(tmp_path),
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_neither_help_nor_a_check_waits_for_the_server(tmp_path: Path) -> None:
    script = """
import sys
from registry.cli import main
try:
    main(["config", "check"])
except SystemExit as done:
    assert done.code == 0, done.code
slow = {"uvicorn", "starlette", "prometheus_client", "structlog", "registry.wiring"}
sys.exit(", ".join(slow & sys.modules.keys()) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=_environment(tmp_path),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
