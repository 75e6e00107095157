"""The units: what systemd thinks of them, and that what they run works with what they allow."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry import collecting
from registry.config.http import Http
from tests.deploy.units import SOURCE, UNITS, Installation
from tests.support.clients import run
from tests.support.engines import program, require_root
from tests.support.registry import Registry
from tests.support.servers import free_port

pytestmark = pytest.mark.engine("systemd")

NOBODY = pwd.getpwnam("nobody")
EXPOSURE = 20
"""Tenths."""


@pytest.fixture
def here() -> Iterator[Installation]:
    """Not below `tmp_path`, which other users cannot enter."""
    with tempfile.TemporaryDirectory(prefix="holdfast-units-") as directory:
        Path(directory).chmod(0o755)
        installation = Installation(Path(directory))
        installation.install()
        yield installation


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_it(here: Installation, unit: str) -> None:
    said = run([program("systemd-analyze"), "verify", "--man=no", str(here.units / unit)])
    assert said.text == ""


@pytest.mark.parametrize("unit", [name for name in UNITS if name.endswith(".service")])
def test_how_exposed_it_is(unit: str) -> None:
    threshold = ("--offline=true", f"--threshold={EXPOSURE}")
    said = run(
        [program("systemd-analyze"), "security", "--no-pager", *threshold, str(SOURCE / unit)]
    )
    assert "Overall exposure level" in said.text


def test_the_timer_runs_every_day(here: Installation) -> None:
    (when,) = here.values("registry-gc.timer", "OnCalendar")
    said = run([program("systemd-analyze"), "calendar", "--iterations=3", when]).stdout
    assert len(re.findall(r"\d{4}-\d\d-\d\d 02:00:00", said)) >= 3
    assert here.values("registry-gc.timer", "Persistent") == ["true"]


def test_its_user_and_directories(tmp_path: Path) -> None:
    require_root("systemd-tmpfiles")
    for kind in ("sysusers", "tmpfiles"):
        (tmp_path / f"usr/lib/{kind}.d").mkdir(parents=True)
        text = (SOURCE / f"holdfast.{kind}.conf").read_text()
        (tmp_path / f"usr/lib/{kind}.d/holdfast.conf").write_text(text)
    etc = tmp_path / "etc/holdfast"
    etc.mkdir(parents=True)
    for file in (SOURCE / "etc").iterdir():
        (etc / file.name).write_text(file.read_text())
    run([program("systemd-sysusers"), f"--root={tmp_path}"])
    run([program("systemd-tmpfiles"), "--create", f"--root={tmp_path}"])
    entry = next(
        line.split(":")
        for line in (tmp_path / "etc/passwd").read_text().splitlines()
        if line.startswith("holdfast:")
    )
    user, group = int(entry[2]), int(entry[3])
    assert user != 0
    assert entry[5:] == ["/var/lib/holdfast", "/usr/sbin/nologin"]
    state = (tmp_path / "var/lib/holdfast").stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (user, group, 0o750)
    modes = {
        file.name: (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777)
        for file in etc.iterdir()
    }
    assert modes.pop("secret.env") == (0, 0, 0o600)
    assert set(modes.values()) == {(0, group, 0o640)}


def test_the_two_services_are_confined_alike(here: Installation) -> None:
    """Both write to one tree, as one user: what one may not, the other may not either."""

    def confinement(unit: str) -> list[str]:
        text = (here.units / unit).read_text()
        lines = text.partition("ProtectSystem=")[2].partition("[Install]")[0].splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    one, other = (confinement(name) for name in UNITS[:2])
    assert one == other
    assert len(one) > 25


def allowed_syscalls(here: Installation, unit: str) -> set[str]:
    """SystemCallFilter=, group by group."""
    said = run([program("systemd-analyze"), "syscall-filter", "--no-pager"]).stdout
    groups: dict[str, list[str]] = {}
    for line in said.splitlines():
        if line.startswith("@"):
            group = groups[line] = []
        elif line.startswith(" ") and not line.strip().startswith("#"):
            group.append(line.strip())

    def members(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {found for inner in groups[name] for found in members(inner)}

    allowed: set[str] = set()
    for value in here.values(unit, "SystemCallFilter"):
        named = {name for word in value.lstrip("~").split() for name in members(word)}
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


def confined(here: Installation, unit: str, command: Sequence[str] = ()) -> list[str]:
    """ExecStart, or another command, in the unit's sandbox, as far as that needs no running systemd.

    All is read-only but the state directory. Only reading as root does is left to the user, because the
    interpreter of the tests may be where nobody else can enter.
    """
    os.chown(here.state, NOBODY.pw_uid, NOBODY.pw_gid)
    mounts = (
        f"mount --bind '{here.state}' '{here.state}' && mount -o remount,bind,ro / && "
        f"cd '{here.state}' && umask {here.values(unit, 'UMask')[0]} && exec \"$@\""
    )
    read = "dac_read_search"
    user = (
        *("setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups"),
        *("--no-new-privs", f"--bounding-set=-all,+{read}", f"--inh-caps=-all,+{read}"),
        *(f"--ambient-caps=-all,+{read}", "--pdeathsig=KILL"),
    )
    filtered = (
        *(sys.executable, str(Path(__file__).with_name("confined.py"))),
        *(",".join(sorted(allowed_syscalls(here, unit))), "--"),
    )
    namespaces = ("unshare", "--mount", "--ipc", "--propagation=private", "--", "sh", "-c", mounts)
    return [*namespaces, "sh", *user, *filtered, *(command or here.command(unit))]


ATTEMPTS = """
import mmap, os, sys
executable = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
for attempt in (
    lambda: mmap.mmap(-1, 4096, prot=executable),
    lambda: open("/tmp/holdfast-test-outside", "w"),
    lambda: os.chown(".", os.getuid(), os.getgid()),
    lambda: os.chroot("/"),
):
    try:
        attempt()
        print("was allowed")
    except OSError as error:
        print(error.errno)
open("inside", "w")
"""


@pytest.mark.parametrize("unit", ["holdfast.service", "registry-gc.service"])
def test_the_sandbox_of_these_tests_refuses(here: Installation, unit: str) -> None:
    require_root("a sandbox")
    said = run(confined(here, unit, [sys.executable, "-c", ATTEMPTS]))
    refused = [errno.EACCES, errno.EROFS, errno.EPERM, errno.EPERM]
    assert [int(line) for line in said.stdout.split()] == refused


def environ(here: Installation, unit: str, **more: str) -> dict[str, str]:
    """Systemd passes nothing on of its own variables."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        **here.environ(unit),
        **more,
    }


@contextmanager
def service(here: Installation, port: int, log: Path) -> Iterator[None]:
    """The registry, once it has said that it is ready; it must say too how long it may take to stop."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        address = f"@holdfast-test-{port}"
        told.bind(f"\0{address[1:]}")
        told.settimeout(30)
        (here.etc / "holdfast.env").write_text(f"REGISTRY_HTTP_ADDR=127.0.0.1:{port}\n")
        with log.open("ab") as output:
            process = subprocess.Popen(
                confined(here, "holdfast.service"),
                env=environ(here, "holdfast.service", NOTIFY_SOCKET=address),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            assert told.recv(4096) == b"READY=1", log.read_text()
            yield
            process.send_signal(signal.SIGTERM)
            stopping, longest = told.recv(4096).decode().splitlines()
            assert stopping == "STOPPING=1"
            settings = Http()
            least = settings.draindelay + settings.draintimeout
            assert int(longest.removeprefix("EXTEND_TIMEOUT_USEC=")) > least * 1e6
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait(10)


def test_the_registry_and_the_collector_work_as_they_are_confined(
    here: Installation, tmp_path: Path
) -> None:
    require_root("a sandbox")
    quick = {"VIEW": "2s", "SECTION": "5s", "LAG": "100ms"}
    lines = [f"REGISTRY_GC_TIMING_{name}={value}\n" for name, value in quick.items()]
    (here.etc / "shared.env").write_text("".join(lines))
    port, log = free_port(), tmp_path / "log"
    with service(here, port, log):
        registry = Registry(f"http://127.0.0.1:{port}")
        pushed = registry.push_image("team/app", "1", b"a layer")
        answer = registry.get("/v2/team/app/manifests/1")
        assert answer.content == pushed.content
        collected = subprocess.run(
            confined(here, "registry-gc.service"),
            env=environ(here, "registry-gc.service"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert collected.returncode == 0, collected.stderr
        assert "1 repositories with 1 tags and 1 manifests" in collected.stdout
        registry.close()
    blob = next((here.state / "docker/registry/v2/blobs").rglob("data"))
    assert (blob.stat().st_uid, blob.stat().st_mode & 0o777) == (NOBODY.pw_uid, 0o640)
    assert "traceback" not in log.read_text().lower()


BUCKET = {"REGISTRY_STORAGE_S3_BUCKET": "images", "REGISTRY_STORAGE_S3_REGION": "eu-central-1"}


@pytest.mark.parametrize("unit", ["holdfast.service", "registry-gc.service"])
@pytest.mark.parametrize("name", BUCKET)
def test_a_variable_that_is_missing_is_named(here: Installation, unit: str, name: str) -> None:
    given = {key: value for key, value in BUCKET.items() if key != name}
    lines = [f"{key}={value}" for key, value in given.items()]
    (here.etc / "cluster.env").write_text("\n".join(['REGISTRY_STORAGE={"s3": {}}', *lines]))
    ended = subprocess.run(
        here.command(unit), env=environ(here, unit), capture_output=True, text=True, check=False
    )
    (line,) = ended.stderr.splitlines()
    assert f"its variable is {name}" in line
    assert ended.returncode == 2


def test_which_ends_are_failures(here: Installation) -> None:
    fine = " ".join(here.values("registry-gc.service", "SuccessExitStatus")).split()
    assert str(collecting.BUSY) in fine
    assert not {str(collecting.BRAKED), str(collecting.FAILED), "2"} & set(fine)
    assert here.values("holdfast.service", "RestartPreventExitStatus") == ["2"]


def test_a_later_file_wins(here: Installation) -> None:
    for number, name in enumerate(("shared", "cluster", "secret", "holdfast")):
        (here.etc / f"{name}.env").write_text(f"REGISTRY_HTTP_WORKERS={number}\n")
        assert here.environ("holdfast.service")["REGISTRY_HTTP_WORKERS"] == str(number)
