"""The compose files in deploy/: as docker-compose reads them, and running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.clients import Client, Docker, Outcome, run
from tests.support.engines import program

DEPLOY = Path(__file__).parents[2] / "deploy"
GIVEN = {
    "HOLDFAST_IMAGE": "registry.example.com/holdfast:1",
    "REGISTRY_HOST": "registry.example.com",
    "S3_BUCKET": "my-images",
    "S3_REGION": "eu-central-1",
    "TLS_CERTIFICATE": "./tls.crt",
    "TLS_KEY": "./tls.key",
    "HTPASSWD_FILE": "./users",
}
"""What the files need, and nothing else."""

_QUICK = {
    f"REGISTRY_GC_TIMING_{name}": value
    for name, value in {"VIEW": "2s", "SECTION": "5s", "LAG": "100ms"}.items()
}


def compose(kind: str, environ: Mapping[str, str], *words: str, check: bool = True) -> Outcome:
    file = str(DEPLOY / f"compose/{kind}/compose.yml")
    return run([program("docker-compose"), "-f", file, *words], check=check, environ=environ)


def rendered(kind: str, **environ: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose(kind, {**GIVEN, **environ}, "config").stdout)
    return found


def quickened(document: dict[str, Any]) -> dict[str, Any]:
    """The same with a collector that waits seconds, and not a minute, for pushes to end."""
    for name, service in document["services"].items():
        if name != "nginx":
            service["environment"] = {**service.get("environment", {}), **_QUICK}
    return document


@contextlib.contextmanager
def project(docker: Docker, text: str, directory: Path) -> Iterator[Client]:
    """docker-compose for a file with this text, in `directory`; what it started goes at the end."""
    file = directory / "compose.yml"
    file.write_text(text)
    _, option, address = docker.command
    assert option == "-H"
    command = (program("docker-compose"), "-p", "holdfast-test", "-f", str(file))
    started = Client(command, {**docker.environ, "DOCKER_HOST": address})
    try:
        yield started
    finally:
        started("down", "-v", "--timeout", "20")
