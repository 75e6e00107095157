"""`registry-gc` and its kin: what they print where, and their exit codes."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from registry_gc.publishing import Publisher

from registry.cli import main as registry
from registry.cli_collector import main as registry_gc
from registry.recurring import run_every
from storage import layout
from storage.driver import Child
from storage.drivers.filesystem import FilesystemDriver
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from tests.faults.mounts import mounted_readonly, tmpfs
from tests.gc.shop import Shop
from tests.support.clients import wait_for

CI = RepositoryName("ci/app")
Run = Callable[..., Result]
QUICK = "gc: {minimumage: 0, trash: 0, timing: {view: 10ms, section: 200ms, lag: 0}}\n"


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
def patient(tmp_path: Path) -> Path:
    """The configuration of who puts something back, which may take its time on a busy machine."""
    path = tmp_path / "patient.yml"
    path.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/storage}}}}\n"
    )
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


def test_undo(run: Run, patient: Path, shop: Shop) -> None:
    first = shop.image("a", "1", b"one")
    second = shop.image("a", "1", b"two")
    history = run("history", "a:1", "--config", patient).stdout.splitlines()
    assert [line.split("  ")[1:] for line in history] == [
        [str(second), "current"],
        [str(first)],
    ]
    assert run("rollback", "a:1", first, "-c", patient, command=registry).exit_code == 0
    assert shop.repository("a").tags.current(Tag("1")) == first
    shop.repository("a").tags.delete(Tag("1"))
    assert "by request" in run("runs", "--config", patient).stdout
    result = run("restore", "a:1", "--config", patient)
    assert result.exit_code == 0
    assert "a:1 is restored." in result.stdout
    assert shop.repository("a").tags.current(Tag("1")) == first


def test_restore_of_what_was_never_removed(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    result = run("restore", "a:2", "--config", config)
    assert result.exit_code == 1
    assert "no such removal" in result.stderr


def test_what_a_run_removed_is_restored_by_its_name(
    run: Run, config: Path, patient: Path, shop: Shop
) -> None:
    shop.image("a", "1", b"one")
    untagged = shop.image("a", None, b"two")
    report = json.loads(run(config, "--now", "-m", "--output", "json").stdout)
    assert report["manifests_removed"] == 1
    assert not shop.pulls("a", untagged)
    assert run("restore", "--run", report["run"], "--config", patient).exit_code == 0
    assert shop.pulls("a", untagged)


def test_what_the_rules_say_of_each_tag(run: Run, config: Path, shop: Shop, tmp_path: Path) -> None:
    """Every clause, and every column."""
    rules = {
        "rules": [
            {
                "repositories": ["ci/**"],
                "keep": {
                    "newest": 1,
                    "younger": "48h",
                    "matching": ["keep-*"],
                    "pulledwithin": "24h",
                    "releases": True,
                },
                "protect": ["latest"],
            },
            {"repositories": ["none/*", "nobody/**"], "keep": {"newest": 1}},
        ]
    }
    config.write_text(config.read_text() + yaml.safe_dump({"retention": rules}))
    ages = {"b9": 1, "b8": 1.5, "v1.2.3": 9, "keep-me": 9, "latest": 9, "used": 9, "old": 9}
    for tag, days in ages.items():
        shop.image("ci/app", tag, tag.encode())
        age(shop, layout.tag_current(CI, Tag(tag)), days)
    shop.driver.write(layout.pulled(CI, Tag("used")), b"")
    shop.driver.write(layout.PULLS_SINCE, b"")
    age(shop, layout.PULLS_SINCE, 30)
    shop.image("other", "1", b"one")
    result = run("retention", config)
    assert result.exit_code == 0
    title, head, *lines = result.stdout.splitlines()
    assert title == "ci/app, by the rule for ci/**:"
    assert re.split(r"  +", head.strip()) == ["tag", "pushed", "last pull", "alone holds", "by"]
    rows = {cells[0]: cells[1:] for cells in (re.split(r"  +", line.strip()) for line in lines)}
    assert {tag: (cells[3], cells[4]) for tag, cells in rows.items()} == {
        "b9": ("kept", "number 1 of the newest 1"),
        "b8": ("kept", "younger than 2 days"),
        "v1.2.3": ("kept", "is a release"),
        "keep-me": ("kept", "matches keep-*"),
        "latest": ("kept", "protected by latest"),
        "used": ("kept", "pulled within 24 hours"),
        "old": ("removed", "no clause keeps it"),
    }
    assert rows["old"][:2] == ["9 days ago", "-"]
    assert rows["used"][1] == "0 hours ago"
    alone = len(shop.content(shop.image("ci/app", "old", b"old"))) + len(b"old")
    assert rows["old"][2] == f"{alone} B"
    assert "Rule 2, for none/*, nobody/**, is that of no repository" in result.stderr


def test_rules_of_nothing(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    result = run("retention", "--dry-run", config)
    assert (
        result.stdout == "No repository has a retention rule with a clause, so every tag is kept.\n"
    )


def age(shop: Shop, key: str, days: float) -> None:
    path = shop.driver.local_path(key)
    assert path is not None
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_a_store_that_does_not_keep_its_word_is_collected_offline_only(
    run: Run, config: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without being asked the first run tries, and once that was passed no later one does."""
    shop.image("a", "1", b"one")
    garbage = shop.blob("a", b"garbage")
    plain = FilesystemDriver.list

    def forgetful(self: FilesystemDriver, prefix: str, *, after: str = "") -> Iterator[Child]:
        found = plain(self, prefix, after=after)
        return iter(()) if "/gc/check-" in prefix else found

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemDriver, "list", forgetful)
        for command in ([config], [config, "--now"], [config, "--check-store"]):
            result = run(*command)
            assert result.exit_code == 1
            assert "does not list at once what was written" in result.stderr
            assert "--offline" in result.stderr
        assert run(config, "--dry-run").exit_code == 0
        assert shop.has_blob(garbage)
        assert run(config, "--offline").exit_code == 0
        assert not shop.has_blob(garbage)
    assert run(config).exit_code == 0
    monkeypatch.setattr(FilesystemDriver, "list", forgetful)
    assert run(config).exit_code == 0


def test_the_time_given_is_over(run: Run, config: Path, shop: Shop) -> None:
    shop.image("a", "1", b"one")
    garbage = shop.blob("a", b"garbage")
    result = run(config, "--now", "--max-duration", "0s")
    assert result.exit_code == 0
    assert "the next run goes on" in result.stderr
    assert shop.has_blob(garbage)
    assert run(config, "--now", "--max-duration", "1h").exit_code == 0
    assert not shop.has_blob(garbage)


def test_waiting_for_another_run(
    run: Run, config: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.image("a", "1", b"one")
    publisher = Publisher(shop.driver, "other")
    publisher.publish()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            publisher.publish(idle=True)

    monkeypatch.setattr("registry.collecting.time.sleep", sleep)
    assert run(config, "--wait").exit_code == 0
    assert slept[0] == 10.0


@pytest.mark.parametrize(
    "command",
    [
        ["collect", "{config}"],
        ["collect", "{config}", "--dry-run"],
        ["collect", "{config}", "--offline"],
        ["retention", "{config}"],
        ["runs", "-c", "{config}"],
        ["history", "a:1", "-c", "{config}"],
        ["explain", "a:1", "-c", "{config}"],
        ["restore", "a", "-c", "{config}"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("there", [False, True], ids=["no directory", "an empty one"])
def test_a_wrong_root_is_named_and_stays_as_it_is(
    run: Run, tmp_path: Path, command: list[str], there: bool
) -> None:
    root, config = tmp_path / "nowhere", tmp_path / "config.yml"
    if there:
        root.mkdir()
    config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n{QUICK}")
    result = run(*(word.format(config=config) for word in command))
    assert result.exit_code == 1
    assert "The storage cannot be used" in result.stderr
    assert "wrong root" in result.stderr if there else str(root) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert {*tmp_path.rglob("*")} == ({root, config} if there else {config})


def test_a_storage_that_may_only_be_read(
    run: Run, config: Path, shop: Shop, tmp_path: Path
) -> None:
    """What only looks works; a run says why it cannot."""
    shop.image("a", "1", b"one")
    shop.repository("a").tags.delete(Tag("1"))
    digest = shop.image("a", "1", b"two")
    garbage = shop.blob("a", b"garbage")
    with mounted_readonly(tmp_path / "storage", tmp_path / "readonly"):
        text = config.read_text().replace(f"{tmp_path}/storage", f"{tmp_path}/readonly")
        config.write_text(text)
        assert "1 blobs and 0 manifests" in run(config, "--dry-run").stdout
        assert run("retention", config).exit_code == 0
        assert "by request" in run("runs", "-c", config).stdout
        assert str(digest) in run("history", "a:1", "-c", config).stdout
        assert "Nothing needs it" in run("explain", garbage, "-c", config).stdout
        assert "0 problems" in run("fsck", config, command=registry).stdout
        for command in ([config], [config, "--now"], ["restore", "a:1", "-c", config]):
            result = run(*command)
            assert result.exit_code == 1
            assert "mounted read-only" in result.stderr
            assert len(result.stderr.splitlines()) == 1


def test_a_full_disk_is_told_and_costs_nothing(run: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path, QUICK) as (config, shop):
        kept = shop.image("a", "1", b"one")
        garbage = shop.blob("a", os.urandom(500_000))
        fill(tmp_path / "small")
        result = run(config, "--now")
        assert result.exit_code == 1
        assert "The storage is full" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert shop.pulls("a", kept)
        assert shop.has_blob(garbage)


@contextmanager
def small_disk(tmp_path: Path, gc: str) -> Iterator[tuple[Path, Shop]]:
    root, config = tmp_path / "small", tmp_path / "config.yml"
    config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n{gc}")
    with tmpfs(root, "2m"):
        driver = FilesystemDriver(root)
        driver.prepare()
        yield config, Shop(driver)


def fill(root: Path) -> None:
    with (
        pytest.raises(OSError, match="No space"),
        (root / "filler").open("wb", buffering=0) as file,
    ):
        while True:
            file.write(bytes(4096))


def test_room_in_the_trash_is_given_back_by_a_run_that_has_no_other(
    run: Run, tmp_path: Path
) -> None:
    with small_disk(tmp_path, QUICK.replace("trash: 0", "trash: 24h, undo: 0")) as (config, shop):
        kept = shop.image("a", "1", b"one")
        garbage = shop.blob("a", os.urandom(500_000))
        for _ in range(2):
            assert run(config).exit_code == 0
        assert not shop.has_blob(garbage)
        fill(tmp_path / "small")
        assert run(config).exit_code == 1
        assert run(config, "--now").exit_code == 0
        assert shop.pulls("a", kept)


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_run_that_is_stopped_says_so_and_leaves_no_wait_to_the_next(
    run: Run, config: Path, shop: Shop, sent: signal.Signals, code: int
) -> None:
    kept = shop.image("a", "1", b"one")
    garbage = shop.blob("a", b"garbage")
    assert run(config, "--check-store").exit_code == 0
    quick = config.read_text()
    config.write_text(quick.replace("view: 10ms", "view: 60s"))
    process = subprocess.Popen(
        [sys.executable, "-c", "from registry.cli_collector import main; main()", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: [*shop.driver.walk(layout.PUBLICATIONS)], "the run has begun")
    process.send_signal(sent)
    reported, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == "Interrupted. Nothing is lost, and the next run goes on.\n"
    assert "Interrupted" not in reported, "once is enough on a terminal, which shows both"
    assert reported.splitlines()[-1].startswith("Run ")
    config.write_text(quick)
    assert run(config, "--now").exit_code == 0
    assert shop.pulls("a", kept)
    assert not shop.has_blob(garbage)


def test_a_terminal_sees_how_far_it_is(config: Path, shop: Shop) -> None:
    for number in range(3):
        shop.image("a", f"{number}", b"%d" % number)
    config.write_text(config.read_text().replace("200ms", "600ms"))
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", "from registry.cli_collector import main; main()", str(config)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        timeout=60,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "1 seconds to wait for pushes that are under way" in shown
    assert "0 repositories" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(r"━+ +\d+% \d+ blobs", plain)
    assert shown.rstrip("\r\n").endswith("\x1b[2K"), "the line is gone when the report comes"
    assert "\x1b" not in done.stdout


def test_the_report_names_repositories(run: Run, config: Path, shop: Shop, tmp_path: Path) -> None:
    shop.image("a", "1", b"shared", b"of a only")
    shop.image("b/c", "1", b"shared")
    metrics = tmp_path / "gc.prom"
    result = run(config, "--output", "json", "--textfile", metrics)
    totals = json.loads(result.stdout)["totals"]
    text = metrics.read_text()
    for name in ("a", "b/c"):
        for kind in ("unique", "shared"):
            metric = f'holdfast_gc_repository_{kind}_bytes{{repository="{name}"}}'
            assert f"{metric} {totals[kind][name]}\n" in text
    assert totals["shared"]["a"] == totals["shared"]["b/c"] == len(b"shared") + len(b"{}")
    assert totals["unique"]["a"] > totals["unique"]["b/c"]
    lines = run(config).stdout.splitlines()
    assert [line.strip().partition(":")[0] for line in lines[-3:-1]] == ["a", "b/c"]


def test_what_is_needed_again_is_told(run: Run, config: Path, shop: Shop) -> None:
    shop.blob("a", b"one")
    shop.image("a", "1", b"two")
    run(config)
    shop.image("a", "2", b"one")
    report = json.loads(run(config, "--output", "json").stdout)
    assert (report["released"], report["waiting"]) == (1, 0)


def test_again_and_again_until_it_is_told_to_stop(config: Path, shop: Shop, tmp_path: Path) -> None:
    shop.image("a", "1", b"one")
    command = [
        sys.executable,
        "-m",
        "registry.cli",
        "garbage-collect",
        "--every",
        "1s",
        str(config),
    ]
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        ends = (line for line in process.stdout if line.startswith("Run "))
        runs = list(itertools.islice(ends, 2))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert len(runs) == 2
    assert errors.read_text() == ""


def test_a_run_that_fails_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends: Iterator[int | BaseException] = iter([3, 75, SystemExit(1), 0, 143])
    pauses: list[float] = []
    monkeypatch.setattr("registry.recurring.time.sleep", pauses.append)

    def once() -> int:
        end = next(ends)
        if isinstance(end, BaseException):
            raise end
        return end

    with pytest.raises(SystemExit, match="143"):
        run_every(3600, once)
    assert len(pauses) == 4
    assert all(3400 < pause < 3800 for pause in pauses)
    assert re.findall(r"ended with (\d+); the next begins in", capsys.readouterr().err) == [
        "3",
        "1",
    ]


def test_an_interval_that_is_too_short(run: Run, config: Path) -> None:
    result = run("--every", "10ms", config)
    assert result.exit_code == 2
    assert "at least 1s" in result.stderr
