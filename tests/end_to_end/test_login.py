"""Real clients log in with a password or a robot's token, push, are refused, and say why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from auth.making import htpasswd_line
from tests.support.clients import Client, Docker, Podman, Skopeo, random_files
from tests.support.images import MIB, Layout, layout_blobs, random_layer
from tests.support.servers import Server, holdfast

POLICY = """\
version: 1
allow:
  - who: [user:alice, "robot:ci-*"]
    repositories: [team/**]
    actions: [pull, push]
  - who: [authenticated]
    repositories: [team/**]
    actions: [pull]
"""


@dataclass(frozen=True)
class Guarded:
    server: Server
    config: Path

    def robot(self, name: str) -> str:
        command = [sys.executable, "-m", "registry.cli", "token", "create", name, str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()


@pytest.fixture(scope="module", params=["builtin", "htpasswd"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    users, policy = directory / "users", directory / "policy.yml"
    lines = [htpasswd_line(name, f"{name}-secret", 4) for name in ("alice", "bob")]
    users.write_text("\n".join(lines) + "\n")
    policy.write_text(POLICY)
    section = {"policy": str(policy)}
    if request.param == "builtin":
        section |= {"keys": str(directory / "keys"), "htpasswd": str(users)}
    else:
        section |= {"realm": "Holdfast", "path": str(users)}
    with holdfast(directory, config={"auth": {request.param: section}}) as server:
        (config,) = directory.glob("config-*.yml")
        yield Guarded(server, config)
        assert "Traceback" not in server.output()
        assert "-secret" not in server.output()


def log_in(client: Client, guarded: Guarded, name: str, password: str, *options: str) -> None:
    client("login", *options, "-u", name, "-p", password, guarded.server.address)


def test_docker(docker: Docker, guarded: Guarded, work: Path) -> None:
    image = f"{guarded.server.address}/team/docker:1"
    docker.build(work / "image", random_files(2, MIB, "login"), image)
    refused = docker("push", image, check=False)
    assert refused.code != 0
    wrong = docker("login", "-u", "alice", "-p", "guess", guarded.server.address, check=False)
    assert wrong.code != 0
    try:
        log_in(docker, guarded, "bob", "bob-secret")
        denied = docker("push", image, check=False)
        assert denied.code != 0
        assert "denied" in denied.stderr + denied.stdout
        log_in(docker, guarded, "alice", "alice-secret")
        docker("push", image)
        docker.forget(image)
        log_in(docker, guarded, "bob", "bob-secret")
        docker("pull", image)
    finally:
        docker("logout", guarded.server.address)
        docker.forget(image)


def test_skopeo(skopeo: Skopeo, guarded: Guarded, work: Path) -> None:
    source = Layout(work / "source")
    source.tag(source.image([random_layer(MIB, "login")]), "1")
    there = f"docker://{guarded.server.address}/team/skopeo:1"
    log_in(skopeo, guarded, "alice", "alice-secret", "--tls-verify=false")
    try:
        skopeo.copy(source.reference("1"), there)
        skopeo.copy(there, f"oci:{work}/back:1")
        assert layout_blobs(work / "back") == layout_blobs(source.path)
        elsewhere = f"docker://{guarded.server.address}/other/skopeo:1"
        insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
        refused = skopeo("copy", *insecure, source.reference("1"), elsewhere, check=False)
        assert refused.code != 0
        # After a HEAD it has no sentence to show.
        assert any(word in refused.stderr for word in ("denied", "unauthorized", "Forbidden"))
    finally:
        skopeo("logout", guarded.server.address)


@pytest.mark.parametrize("guarded", ["builtin"], indirect=True)
def test_podman_as_a_robot(podman: Podman, guarded: Guarded, work: Path) -> None:
    image = f"{guarded.server.address}/team/podman:1"
    podman.build(work / "image", random_files(1, MIB, "robot"), image)
    log_in(podman, guarded, "ci", guarded.robot("ci-podman"), "--tls-verify=false")
    try:
        podman("push", "--tls-verify=false", image)
        podman.forget(image)
        podman("pull", "--tls-verify=false", image)
    finally:
        podman("logout", guarded.server.address)
        podman.forget(image)
