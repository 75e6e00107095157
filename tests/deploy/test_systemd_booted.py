"""The units as systemd runs them, on a machine of their own, installed as their README says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from registry.cli_image import ANONYMOUS
from tests.deploy.booted import COLLECTOR, PATIENCE, PORT, SERVICE, Machine, machine
from tests.support.clients import wait_for
from tests.support.images import random_layer, sha256

pytestmark = pytest.mark.engine("user-mode-linux")

SETTINGS = {
    # The collector waits out these, which say how far machines may be apart.
    "shared.env": {
        "REGISTRY_GC_TIMING_VIEW": "2s",
        "REGISTRY_GC_TIMING_SECTION": "10s",
        "REGISTRY_GC_TIMING_LAG": "100ms",
    },
    "secret.env": {"REGISTRY_HTTP_SECRET": "only-root-reads-it"},
    # Nobody but us is on the machine's network.
    "holdfast.env": {
        "REGISTRY_HTTP_ADDR": f"0.0.0.0:{PORT}",
        "REGISTRY_HTTP_DRAINDELAY": "100ms",
        ANONYMOUS: "1",
    },
}
SOON = r"[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1s\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("systemd"), SETTINGS) as running:
        yield running


@pytest.fixture
def booted(installed: Machine) -> Machine:
    """The registry serves there, whatever the test before did."""
    installed.shell("systemctl start holdfast")
    return installed


def test_the_process_has_what_the_unit_leaves_it(booted: Machine) -> None:
    state, pid = booted.show(SERVICE, "ActiveState", "MainPID")
    assert state == "active"
    status = dict(
        line.split(":\t", 1)
        for line in booted.shell(f"cat /proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    user = booted.shell("id -u holdfast").strip()
    assert set(status["Uid"].split()) == {user}
    assert int(user) != 0
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    # As it sees the machine: everything but its own directories is read-only, and homes are empty.
    view = f"nsenter --target {pid} --mount --"
    assert "ro" in booted.shell(f"{view} findmnt -n -o OPTIONS /").strip().split(",")
    assert booted.shell(f"{view} ls -A /root /home").split() == ["/home:", "/root:"]
    secret = f"tr '\\0' '\\n' </proc/{pid}/environ | grep ^REGISTRY_HTTP_SECRET="
    assert booted.shell(secret).strip().endswith("only-root-reads-it")
    assert booted.shell("stat -c '%a %U' /etc/holdfast/secret.env").split() == ["600", "root"]


def test_nothing_is_lost_when_it_is_reloaded_restarted_and_killed(booted: Machine) -> None:
    with booted.api() as client:
        client.client.headers["Connection"] = "close"
        client.push_image("team/app", "1", [random_layer(50_000, "systemd")])
        content = client.content_of("team/app", "1")

        (first,) = booted.show(SERVICE, "MainPID")
        booted.shell("systemctl reload holdfast")
        assert booted.show(SERVICE, "MainPID", "ActiveState") == [first, "active"]
        booted.told(SERVICE, "SIGHUP")
        assert client.content_of("team/app", "1") == content

        upload = client.append(client.begin("team/app"), b"half of it, ")
        booted.shell("systemctl restart holdfast")
        second, restarts = booted.show(SERVICE, "MainPID", "NRestarts")
        assert (second != first, restarts) == (True, "0")
        booted.told(SERVICE, "the server has stopped")
        assert client.content_of("team/app", "1") == content
        whole = b"half of it, the other half"
        client.finish(client.append(upload, b"the other half"), b"", sha256(whole))
        assert client.blob("team/app", sha256(whole)) == whole

        booted.shell(f"kill -KILL {second}")
        back = ["1", "active"]
        wait_for(
            lambda: booted.show(SERVICE, "NRestarts", "ActiveState") == back,
            "systemd starts it again",
            PATIENCE,
            every=0.5,
        )
        assert client.content_of("team/app", "1") == content


def test_the_timer_runs_the_collector(booted: Machine) -> None:
    with booted.api() as client:
        client.push_image("team/kept", "1", [random_layer(1_000, "kept")])
        content = client.content_of("team/kept", "1")
        drop_in = "/etc/systemd/system/registry-gc.timer.d"
        booted.shell(
            f"mkdir -p {drop_in}; printf '{SOON}' >{drop_in}/soon.conf;"
            "systemctl daemon-reload; systemctl restart registry-gc.timer"
        )
        wait_for(
            lambda: booted.show(COLLECTOR, "ExecMainExitTimestampMonotonic") != ["0"],
            "the collector has run",
            PATIENCE,
            every=0.5,
        )
        ended = booted.show(COLLECTOR, "Result", "ExecMainStatus")
        assert ended == ["success", "0"], booted.journal(COLLECTOR)
        journal = booted.told(COLLECTOR, " requests.\n")
        assert re.search(r"\d repositories with \d tags and \d manifests; \d blobs", journal)
        assert "Removed: 0 blobs, 0 manifests" in journal
        assert client.content_of("team/kept", "1") == content


def test_it_stops_and_a_wrong_configuration_is_said_once(booted: Machine) -> None:
    """Exit code 2 is not tried again: `Restart=` would hide what is wrong among repetitions."""
    booted.shell("systemctl stop holdfast")
    stopped = booted.show(SERVICE, "ActiveState", "Result", "ExecMainStatus")
    assert stopped == ["inactive", "success", "0"], booted.journal(SERVICE)

    file = "/etc/holdfast/holdfast.env"
    booted.shell(f"cp -p {file} {file}.right; echo REGISTRY_HTTP_WORKERS=many >>{file}")
    try:
        assert booted.guest.run("systemctl", "start", "holdfast", check=False).code != 0
        state = booted.show(SERVICE, "ActiveState", "ExecMainStatus", "NRestarts")
        journal = booted.told(SERVICE, "REGISTRY_HTTP_WORKERS")
    finally:
        booted.shell(f"mv {file}.right {file}; systemctl reset-failed holdfast")
    assert state == ["failed", "2", "0"]
    assert "Traceback" not in journal
