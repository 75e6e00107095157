"""Metrics directories of servers that were killed: removed at the next start, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry.telemetry import metrics
from registry.telemetry.leftovers import LOCK, PREFIX, UNCLAIMED, claim

OWNER = """
import os, sys
from pathlib import Path
from registry.telemetry.leftovers import claim
claim(Path(sys.argv[1]))
if sys.argv[2] == "with a worker" and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """The directory of the server that starts now; it is claimed by claimed()."""
    path = tmp_path / f"{PREFIX}fresh"
    path.mkdir()
    return path


def start(directory: Path) -> None:
    """Claim it as a server does that starts, and end."""
    os.close(claim(directory))


def owned(directory: Path, how: str = "alone") -> subprocess.Popen[str]:
    directory.mkdir()
    (directory / "counter_1.db").write_bytes(bytes(1000))
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "claimed\n"
    return owner


def end(owner: subprocess.Popen[str]) -> None:
    """And the worker that waits for the end of the same pipe."""
    assert owner.stdin is not None
    assert owner.stdout is not None
    owner.stdin.close()
    owner.stdout.read()
    owner.stdout.close()
    owner.wait(20)


def test_what_a_killed_server_left_goes_and_that_of_a_living_one_stays(
    tmp_path: Path, fresh: Path
) -> None:
    killed, living = tmp_path / f"{PREFIX}killed", tmp_path / f"{PREFIX}living"
    owners = [owned(killed), owned(living)]
    try:
        owners[0].send_signal(signal.SIGKILL)
        owners[0].wait(20)
        start(fresh)
        assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, living.name]
        assert (living / "counter_1.db").exists()
        start_again = tmp_path / f"{PREFIX}again"
        start_again.mkdir()
        start(start_again)  # `fresh` is nobody's by now
        assert sorted(path.name for path in tmp_path.iterdir()) == [start_again.name, living.name]
    finally:
        for owner in owners:
            end(owner)


def test_while_a_worker_lives_its_parent_may_be_killed(tmp_path: Path, fresh: Path) -> None:
    directory = tmp_path / f"{PREFIX}orphaned"
    owner = owned(directory, "with a worker")
    try:
        owner.send_signal(signal.SIGKILL)
        owner.wait(20)
        start(fresh)
        assert directory.exists()
    finally:
        end(owner)


def test_one_that_is_just_being_made_stays_and_an_old_one_without_owner_goes(
    tmp_path: Path, fresh: Path
) -> None:
    new, old = tmp_path / f"{PREFIX}new", tmp_path / f"{PREFIX}old"
    for path in (new, old):
        path.mkdir()
    past = old.stat().st_mtime - UNCLAIMED - 5
    os.utime(old, (past, past))
    start(fresh)
    assert new.exists()
    assert not old.exists()


def test_nothing_else_is_touched(tmp_path: Path, fresh: Path) -> None:
    """Names of others, files, and links to what is elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (elsewhere / "kept").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    linked = tmp_path / f"{PREFIX}linked-lock"
    linked.mkdir()
    (linked / LOCK).symlink_to(elsewhere / LOCK)
    start(fresh)
    assert (elsewhere / "kept").exists()
    assert (tmp_path / f"{PREFIX}link").is_symlink()
    assert (tmp_path / f"{PREFIX}file").exists()
    assert linked.exists()


def test_a_directory_is_claimed_once(fresh: Path) -> None:
    held = claim(fresh)
    try:
        neighbour = fresh.with_name(f"{PREFIX}neighbour")
        neighbour.mkdir()
        start(neighbour)
        assert fresh.exists()
    finally:
        os.close(held)


def test_the_names_are_those_that_metrics_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.values", None)  # as before its first import
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    directory = metrics.prepare(tmp_path)
    assert directory.name.startswith(PREFIX)
    metrics.cleanup(directory)
