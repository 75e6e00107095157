"""Real servers for tests: Holdfast, and the peer, each a process on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

START_TIMEOUT = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server. `log` has what it printed."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    root: Path
    host: str = "127.0.0.1"
    authority: Path | None = None
    """The certificate by which clients trust it; None if it speaks plain HTTP."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'http' if self.authority is None else 'https'}://{self.address}"

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client in Python verifies its certificate with."""
        return ssl.create_default_context(cafile=self.authority)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> int:
        """Send the signal and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL for the server and all of its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    root: Path,
    ready: str,
    status: int = 200,
    environ: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    authority: Path | None = None,
) -> Iterator[Server]:
    """Start `command`, wait until `ready` (a path) answers `status`, and stop it at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
    server = Server(process, port, log, root, host, authority)
    try:
        _await_ready(server, ready, status)
        yield server
    finally:
        if process.poll() is None:
            try:
                server.stop(signal.SIGINT, timeout=15)
            except subprocess.TimeoutExpired:
                server.kill()


def _await_ready(server: Server, path: str, ready: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    trust = server.trust
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended at its start:\n{server.output()}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(server.url + path, timeout=2, verify=trust).status_code == ready:
                return
        time.sleep(0.02)
    raise AssertionError(f"the server was not ready in {START_TIMEOUT} s:\n{server.output()}")


def merged(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`more` laid over `base`, section by section."""
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both and isinstance(old, dict) else value
    return result


@contextlib.contextmanager
def holdfast(
    directory: Path,
    *,
    driver: str = "filesystem",
    workers: int = 2,
    port: int | None = None,
    config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    authority: Path | None = None,
    module: str = "registry.cli",
    under: Sequence[str] = (),
) -> Iterator[Server]:
    """Holdfast on `directory`/tree, with `config` laid over what tests usually want.

    `authority` is of the certificate that `config` has in http.tls. `module` is run instead of the
    program itself, if a test changes what cannot be configured; `under` is a command that runs it.
    """
    port = port or free_port()
    root = directory / "tree"
    storage = (
        {"filesystem": {"rootdirectory": str(root)}} if driver == "filesystem" else {driver: {}}
    )
    settings = merged(
        {
            "version": "0.1",
            "log": {"level": "debug", "formatter": "json"},
            "storage": {**storage, "delete": {"enabled": True}},
            "http": {
                "addr": f"{host}:{port}",
                "workers": 1 if driver == "inmemory" else workers,
                "draindelay": "0s",
            },
        },
        config or {},
    )
    path = directory / f"config-{port}.yml"
    path.write_text(yaml.safe_dump(settings))
    command = [*under, sys.executable, "-m", module, "serve", str(path)]
    log = directory / f"holdfast-{port}.log"
    with running(
        command,
        port=port,
        log=log,
        root=root,
        ready="/readyz",
        environ=environ,
        host=host,
        authority=authority,
    ) as server:
        yield server


@contextlib.contextmanager
def distribution(
    directory: Path,
    program: str,
    *,
    root: Path | None = None,
    port: int | None = None,
    auth: Mapping[str, Any] | None = None,
) -> Iterator[Server]:
    """Debian's docker-registry, the peer, on `root` (default: `directory`/tree)."""
    port = port or free_port()
    root = root or directory / "tree"
    settings: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(root)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "peer"},
    }
    if auth is not None:
        settings["auth"] = dict(auth)
    path = directory / f"distribution-{port}.yml"
    path.write_text(yaml.safe_dump(settings))
    log = directory / f"distribution-{port}.log"
    command = [program, "serve", str(path)]
    status = 200 if auth is None else 401
    with running(command, port=port, log=log, root=root, ready="/v2/", status=status) as server:
        yield server
