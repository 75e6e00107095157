"""What a registry, its collector and a node_exporter tell, after a little of everything was done."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from click.testing import CliRunner

from registry.cli_auth import htpasswd
from registry.cli_collector import main as registry_gc
from tests.support import access
from tests.support.api import api
from tests.support.clients import wait_for
from tests.support.engines import program
from tests.support.images import random_layer
from tests.support.servers import free_port, holdfast


@dataclass(frozen=True, slots=True)
class Told:
    registry: str
    """Its /metrics."""
    textfile: str
    """What `registry-gc --textfile` wrote."""
    exporter: str
    """The /metrics of a node_exporter that reads the textfile."""
    lines: list[access.Line]


def told(directory: Path) -> Told:
    users = directory / "htpasswd"
    made = CliRunner().invoke(htpasswd, ["alice"], input="secret\nsecret\n")
    users.write_text(made.output.splitlines()[-1] + "\n")
    auth = {"htpasswd": {"realm": "Registry", "path": str(users)}}
    nginx = {"trustedproxies": ["127.0.0.1"], "accelredirect": "/holdfast-blobs/"}
    with holdfast(directory, workers=1, config={"auth": auth, "http": nginx}) as server:
        with api(server.url) as client:
            client.client.auth = httpx.BasicAuth("alice", "secret")
            image = client.push_image("team/app", "1", [random_layer(10_000, "told")])
            for _ in range(2):
                client.manifest("team/app", image["digest"])
            client.tags("team/app")
            layer = client.push_blob("team/app", b"for nginx")
            as_nginx = {"X-Sendfile-Type": "X-Accel-Redirect"}
            client.client.get(f"/v2/team/app/blobs/{layer}", headers=as_nginx).raise_for_status()
            assert client.status("team/app/manifests/none") == 404
            client.delete("team/app/manifests/1")
        wrong = {"Authorization": "Basic " + base64.b64encode(b"alice:wrong").decode()}
        answers = {httpx.get(f"{server.url}/v2/", headers=wrong).status_code for _ in range(8)}
        assert answers == {401, 429}
        metrics = httpx.get(f"{server.url}/metrics").text
    textfile = _collected(directory, server.root)
    return Told(metrics, textfile.read_text(), _exported(textfile.parent), access.lines(server))


def _collected(directory: Path, root: Path) -> Path:
    config = directory / "collector.yml"
    storage = {"filesystem": {"rootdirectory": str(root)}}
    config.write_text(yaml.safe_dump({"version": "0.1", "storage": storage}))
    textfile = directory / "textfile" / "holdfast_gc.prom"
    textfile.parent.mkdir()
    command = ["--quiet", "--dry-run", f"--textfile={textfile}", str(config)]
    result = CliRunner().invoke(registry_gc, command)
    assert result.exit_code == 0, result.output
    return textfile


def _exported(directory: Path) -> str:
    """Of node_exporter, told to read the directory as prometheus.yml says."""
    port = free_port()
    command = [
        *(program("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}"),
        *("--collector.disable-defaults", "--collector.filesystem", "--collector.textfile"),
        f"--collector.textfile.directory={directory}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    found: list[str] = []

    def answered() -> bool:
        with contextlib.suppress(httpx.TransportError):
            found.append(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        return bool(found)

    try:
        wait_for(answered, "node_exporter answers")
        return found[-1]
    finally:
        process.terminate()
        process.wait(10)
