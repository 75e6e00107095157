"""`registry-gc` and its kin: what they print where, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from registry.cli import main as registry
from registry.cli_collector import main as registry_gc
from storage import layout
from storage.drivers.filesystem import FilesystemDriver
from storage.model.digest import Digest
from storage.model.reference import Tag
from tests.gc.shop import Shop

Run = Callable[..., Result]
QUICK = "gc: {minimumage: 0, trash: 0, timing: {view: 10ms, section: 10ms, lag: 0}}\n"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    driver = FilesystemDriver(tmp_path / "storage")
    driver.prepare()
    return Shop(driver)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    root = tmp_path / "storage"
    path.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n{QUICK}")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("REGISTRY_")]:
        monkeypatch.delenv(name)
    # How long a store's clock may be rounded; here it is not.
    monkeypatch.setattr("registry_gc.check_store._LATE", 0.0)

    def runner(*arguments: object, command: object = registry_gc) -> Result:
        return CliRunner().invoke(command, [str(part) for part in arguments])  # type: ignore[arg-type]

    return runner


def test_a_run_reports_what_it_did(run: Run, config: Path, shop: Shop) -> None:
    kept = shop.image("a", "1", b"one")
    garbage = shop.blob("a", b"garbage")
    result = run(config, "--now")
    assert result.exit_code == 0, result.output
    assert "1 blobs, 0 manifests, 1 links" in result.stdout
    assert "7 B freed" in result.stdout
    assert shop.pulls("a", kept)
    assert not shop.has_blob(garbage)


def test_cron_hears_nothing_if_all_is_well(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    result = run(config, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_a_dry_run_writes_nothing(run: Run, config: Path, shop: Shop, tmp_path: Path) -> None:
    shop.image("a", "1", b"one")
    shop.blob("a", b"garbage")
    before = sorted(tmp_path.rglob("*"))
    result = run(config, "--dry-run")
    assert result.exit_code == 0
    assert "would be newly condemned: 1 blobs" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flags", [["--dry-run"], ["-d", "-m", "-q"], ["--delete-untagged"]])
def test_distributions_command_and_flags(
    run: Run, config: Path, shop: Shop, flags: list[str]
) -> None:
    shop.image("a", "1", b"one")
    result = run("garbage-collect", *flags, config, command=registry)
    assert result.exit_code == 0, result.output


def test_json_and_metrics(run: Run, config: Path, shop: Shop, tmp_path: Path) -> None:
    shop.image("a", "1", b"one")
    shop.blob("a", b"garbage")
    metrics = tmp_path / "gc.prom"
    begun = time.time()
    result = run(config, "--now", "--output", "json", "--textfile", metrics)
    report = json.loads(result.stdout)
    assert report["blobs_removed"] == 1
    assert report["exit_code"] == 0
    assert report["totals"]["unique"]["a"] > 0
    assert report["requests"] > 100
    text = metrics.read_text()
    assert "holdfast_gc_removed_blobs 1\n" in text
    assert "# TYPE holdfast_gc_freed_bytes gauge" in text
    (ended,) = re.findall(r"^holdfast_gc_finished_timestamp_seconds (.*)$", text, re.MULTILINE)
    assert begun <= float(ended) <= time.time()
    assert metrics.stat().st_mode & 0o444 == 0o444


def test_a_brake_is_3(run: Run, config: Path, shop: Shop) -> None:
    shop.blob("a", b"one")
    result = run(config)
    assert result.exit_code == 3
    assert "not one manifest" in result.stderr
    assert run(config, "--now", "--force").exit_code == 0


def test_another_run_is_75(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    shop.driver.write(
        layout.publication("other", 1),
        b'{"version":1,"filters":[],"lists":[],"doomed":[],"idle":false}',
    )
    metrics = config.with_name("gc.prom")
    metrics.write_text("of the run before\n")
    result = run(config, "--textfile", metrics)
    assert metrics.read_text() == "of the run before\n"
    assert result.exit_code == 75
    assert "Another run, other, is at work" in result.stderr
    assert result.stdout == ""


def test_what_cannot_be_read_is_1_and_says_how_to_go_on(run: Run, config: Path, shop: Shop) -> None:
    digest = Digest.of(b"no json")
    shop.image("a", "1", b"one")
    shop.driver.write(layout.blob(digest), b"no json")
    shop.driver.write(layout.revision(shop.repository("a").name, digest), b"")
    result = run(config)
    assert result.exit_code == 1
    assert f"--ignore {digest}" in result.stderr
    assert run(config, "--ignore", digest).exit_code == 0


def test_a_storage_that_is_not_there_is_1(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("version: 0.1\nstorage: {filesystem: {rootdirectory: /proc/nothing}}\n")
    result = run(path)
    assert result.exit_code == 1
    assert "The storage cannot be used" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--min-age", "7"],
        ["--ignore", "sha256:short"],
        ["--offline", "--now"],
        ["restore"],
        ["history", "a"],
        ["restore", "UPPER:x"],
    ],
)
def test_a_wrong_command_line_is_2(run: Run, config: Path, arguments: list[str]) -> None:
    rest = ["--config", config] if arguments[0] in {"restore", "history"} else [config]
    result = run(*arguments, *rest)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_check_store(run: Run, config: Path) -> None:
    result = run(config, "--check-store")
    assert result.exit_code == 0
    assert "while images are pushed" in result.stdout


def test_explain_says_what_keeps_a_blob(run: Run, config: Path, shop: Shop) -> None:
    image = shop.image("a", None, b"one")
    index = shop.index("a", "1", [image])
    result = run("explain", Digest.of(b"one"), "--config", config)
    assert f"a:1 -> a@{index} -> a@{image} -> {Digest.of(b'one')}" in result.stdout
    assert f"a:1 -> a@{index}" in run("explain", "a:1", "--config", config).stdout


def test_explain_says_when_garbage_goes(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    digest = shop.blob("a", b"garbage")
    assert "The next run condemns it" in run("explain", digest, "--config", config).stdout
    run(config)
    text = run("explain", digest, "--config", config).stdout
    assert "which frees 7 bytes" in text
    assert "in 168.0 hours" in text


def test_undo(run: Run, config: Path, shop: Shop) -> None:
    first = shop.image("a", "1", b"one")
    second = shop.image("a", "1", b"two")
    history = run("history", "a:1", "--config", config).stdout.splitlines()
    assert [line.split("  ")[1:] for line in history] == [
        [str(second), "current"],
        [str(first)],
    ]
    assert run("rollback", "a:1", first, "-c", config, command=registry).exit_code == 0
    assert shop.repository("a").tags.current(Tag("1")) == first
    shop.repository("a").tags.delete(Tag("1"))
    assert "by request" in run("runs", "--config", config).stdout
    result = run("restore", "a:1", "--config", config)
    assert result.exit_code == 0
    assert "a:1 is restored." in result.stdout
    assert shop.repository("a").tags.current(Tag("1")) == first


def test_restore_of_what_was_never_removed(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    result = run("restore", "a:2", "--config", config)
    assert result.exit_code == 1
    assert "no such removal" in result.stderr


def test_what_a_run_removed_is_restored_by_its_name(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    untagged = shop.image("a", None, b"two")
    report = json.loads(run(config, "--now", "-m", "--output", "json").stdout)
    assert report["manifests_removed"] == 1
    assert not shop.pulls("a", untagged)
    assert run("restore", "--run", report["run"], "--config", config).exit_code == 0
    assert shop.pulls("a", untagged)
