"""The chart's pods in the real image: what a kubelet would run, by a real Docker engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from auth.keys import KeyRing
from registry.cli_auth import htpasswd
from tests.deploy import helm
from tests.deploy.helm import Manifest, one, pods, render
from tests.support.api import api
from tests.support.clients import Docker, wait_for
from tests.support.images import random_layer
from tests.support.servers import free_port, merged

pytestmark = [pytest.mark.engine("docker"), pytest.mark.engine("helm")]

USER = 65532


def _container(
    image: str, pod: Manifest, container: Manifest, volumes: Mapping[str, Path], **environ: str
) -> list[str]:
    """What `docker run` is to be told."""
    user = pod["spec"]["securityContext"]
    words = ["--network=host", f"--user={user['runAsUser']}:{user['runAsGroup']}"]
    words += ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    given = {each["name"]: each["value"] for each in container.get("env", [])}
    for name, value in {**given, **environ}.items():
        words += ["-e", f"{name}={value}"]
    for mount in container["volumeMounts"]:
        source = volumes[mount["name"]] / mount.get("subPath", "")
        mode = ":ro" if mount.get("readOnly") else ""
        words += ["-v", f"{source}:{mount['mountPath']}{mode}"]
    program, *more = container.get("command", [""])
    if program:
        words.append(f"--entrypoint={program}")
    return [*words, image, *more, *container.get("args", [])]


def _volume(directory: Path, name: str, files: Mapping[str, str]) -> Path:
    """A directory that the pod's group may use, with files that it may read."""
    path = directory / name
    path.mkdir()
    for file, text in files.items():
        (path / file).write_text(text)
        os.chown(path / file, 0, USER)
        (path / file).chmod(0o440)
    os.chown(path, 0, USER)
    path.chmod(0o2777)
    return path


def test_a_registry_and_its_collector_on_a_volume(
    docker: Docker, image: str, tmp_path: Path
) -> None:
    # Nobody pushes beside it, so the collector need not find out first whether it may.
    offline = {"collector": {"arguments": ["--offline"]}}
    manifests = render(merged(helm.example("volume.yaml"), offline))
    made = CliRunner().invoke(htpasswd, ["alice"], input="secret\nsecret\n")
    volumes = {
        "config": _volume(tmp_path, "config", one(manifests, "ConfigMap")["data"]),
        "files": _volume(tmp_path, "files", {"htpasswd": made.output.splitlines()[-1] + "\n"}),
        "tmp": _volume(tmp_path, "tmp", {}),
        "tree": _volume(tmp_path, "tree", {}),
    }
    pod = pods(manifests)["Deployment"]
    (container,) = pod["spec"]["containers"]
    port = free_port()
    address = f"127.0.0.1:{port}"
    url = f"http://{address}"
    here = {"REGISTRY_HTTP_ADDR": address, "REGISTRY_HTTP_HOST": url}
    words = _container(image, pod, container, volumes, **here)
    found = docker("run", "-d", *words).stdout.strip()

    def answers(path: str) -> bool:
        try:
            return httpx.get(url + path).status_code == 200
        except httpx.TransportError:
            return False

    try:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = container[probe]["httpGet"]["path"]
            wait_for(partial(answers, path), f"{path} answers 200")
        with api(url) as client:
            client.client.auth = httpx.BasicAuth("alice", "secret")
            client.push_image("team/app", "1", [random_layer(10_000, "pod")])
            client.push_blob("team/app", b"garbage")
    finally:
        log = docker("logs", found).text
        docker("stop", found)
        docker("rm", found)
    assert "Traceback" not in log

    job = pods(manifests)["CronJob"]
    (collector,) = job["spec"]["containers"]
    done = docker("run", "--rm", *_container(image, job, collector, volumes))
    assert "1 repositories with 1 tags and 1 manifests" in done.stdout, done.text


def test_the_keys_of_a_secret(docker: Docker, image: str, tmp_path: Path) -> None:
    ring = KeyRing(str(tmp_path / "made"))
    kid = ring.rotate()
    secret = {path.name: path.read_text() for path in (tmp_path / "made").glob("*.pem")}
    volumes = {
        "given-keys": _volume(tmp_path, "given", {**secret, "sealing-key": "ab" * 32}),
        "keys": _volume(tmp_path, "keys", {}),
    }
    pod = pods(render(helm.example("s3.yaml")))["Deployment"]
    (container,) = pod["spec"]["initContainers"]
    docker("run", "--rm", *_container(image, pod, container, volumes))
    kept = volumes["keys"] / "keys"
    assert KeyRing(str(kept)).signing().kid == kid
    assert {path.stat().st_uid for path in (kept, *kept.iterdir())} == {USER}
