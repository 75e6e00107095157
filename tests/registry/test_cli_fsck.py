"""`registry fsck`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from registry.cli import main
from registry.cli_collector import main as registry_gc
from storage import layout
from storage.drivers.filesystem import FilesystemDriver
from storage.model.digest import Digest
from storage.model.reference import RepositoryName
from tests.faults.mounts import mounted_readonly
from tests.gc.shop import Shop

Run = Callable[..., Result]
LINK = layout.layer(RepositoryName("a"), Digest.of(b"one"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    driver = FilesystemDriver(tmp_path / "storage")
    driver.prepare()
    made = Shop(driver)
    made.image("a", "1", b"one")
    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = tmp_path / "config.yml"
    root = tmp_path / "storage"
    config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n")

    def runner(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["fsck", str(config), *arguments])

    return runner


def test_a_sound_tree_is_0(run: Run, shop: Shop) -> None:
    result = run("--scrub", "--rate", "100")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "1 repositories, 1 manifests, 1 tags; 3 blobs read: 0 problems, 0 repaired, 0 left.\n"
    )


def test_damage_is_1_and_mended_it_is_0(run: Run, shop: Shop) -> None:
    shop.driver.delete(LINK)
    found = run()
    assert found.exit_code == 1
    assert "layer-link-missing: The manifest a@sha256:" in found.stdout
    assert "1 problems, 0 repaired, 1 left" in found.stdout
    mended = run("--repair")
    assert mended.exit_code == 0, mended.output
    assert "Repaired." in mended.stdout
    assert run().exit_code == 0


def test_what_only_a_push_mends_stays_1(run: Run, shop: Shop) -> None:
    shop.driver.delete(layout.blob(Digest.of(b"one")))
    result = run("--repair")
    assert result.exit_code == 1
    assert "push the image again" in result.stdout


def test_json_is_a_line_for_each_and_one_for_all(run: Run, shop: Shop) -> None:
    shop.driver.delete(LINK)
    lines = [json.loads(line) for line in run("--output", "json").stdout.splitlines()]
    assert lines[0]["kind"] == "layer-link-missing"
    assert lines[0]["key"] == LINK
    assert lines[0]["repaired"] is False
    assert lines[1]["left"] == 1
    assert lines[1]["summary"]["by_kind"] == {"layer-link-missing": 1}


def test_a_storage_that_cannot_be_read_is_one_line(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied", "/storage")

    monkeypatch.setattr("os.scandir", fail)
    result = run()
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "Traceback" not in result.output


def test_a_wrong_configuration_is_2(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text("version: 0.1\nstorage: {nothing: {}}\n")
    result = CliRunner().invoke(main, ["fsck", str(config)])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_look_needs_no_right_to_write_and_leaves_no_trace(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    """Nor does the collector's dry run."""
    shutil.rmtree(tmp_path / "storage" / "docker/registry/v2/holdfast")
    os.rename(tmp_path / "storage", tmp_path / "written")
    before = sorted((tmp_path / "written").rglob("*"))
    with mounted_readonly(tmp_path / "written", tmp_path / "storage"):
        assert run().exit_code == 0
        dry = CliRunner().invoke(registry_gc, [str(tmp_path / "config.yml"), "--dry-run"])
        assert dry.exit_code == 0, dry.output
    assert sorted((tmp_path / "written").rglob("*")) == before
