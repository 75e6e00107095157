"""A server in a process of its own, asked as `tests.faults.inprocess.Registry`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.faults.inprocess import SECRET, Answer, Request
from tests.faults.serve import Plan
from tests.support.servers import Server, free_port, merged, running


@dataclass(frozen=True, slots=True)
class Remote:
    server: Server
    client: httpx.Client

    def send(self, request: Request) -> Answer:
        """Raises httpx.TransportError if the connection ends before the answer is whole."""
        answer = self.client.request(
            request.method, request.url, content=request.content, headers=dict(request.headers)
        )
        return Answer(answer.status_code, answer.headers, answer.content, whole=True)


def configured(root: Path, port: int, config: Mapping[str, Any] | None = None) -> Path:
    """A configuration file beside the tree."""
    settings = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "secret": SECRET.decode(),
            "relativeurls": True,
            "workers": 1,
            "draindelay": "0s",
        },
    }
    path = root.parent / f"config-{port}.yml"
    path.write_text(yaml.safe_dump(merged(settings, config or {})))
    return path


@contextmanager
def serving(
    root: Path,
    plan: Plan | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    timeout: float = 30,
) -> Iterator[Remote]:
    """The registry on the tree `root`; as it is, or with a plan of faults."""
    port = free_port()
    path = configured(root, port, config)
    command = [sys.executable, "-m", "registry.cli", "serve", str(path)]
    environ = {}
    if plan is not None:
        command = [sys.executable, "-m", "tests.faults.serve", str(path)]
        environ = plan.environ()
    with running(
        command,
        port=port,
        log=root.parent / f"log-{port}",
        root=root,
        ready="/readyz",
        environ=environ,
    ) as server:
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=server.url, timeout=timeout, limits=limits) as client:
            yield Remote(server, client)
