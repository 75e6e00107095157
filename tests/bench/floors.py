"""What rows would cost without a registry: a file from nginx, or bytes that are only hashed and written."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.content import Content, hashed, new_seed
from tests.bench.measure import Floor, Meter, Stage
from tests.bench.wire import Unverified
from tests.support.certificates import Authority
from tests.support.servers import Server, free_port, running

_NGINX = """
{user}
daemon off;
pid {place}/pid;
worker_processes auto;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    sendfile on;
    tcp_nopush on;
    access_log {place}/access;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxied;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port} {ssl};
        {certificate}
        root {place}/files;
        default_type application/octet-stream;
        add_header Docker-Content-Digest "{digest}";
    }}
}}
"""
_READY = "ready"


@contextlib.contextmanager
def nginx(
    place: Path, repository: str, content: Content, authority: Authority | None = None
) -> Iterator[Server]:
    """One blob as a static file, at the path that it has in a registry; with TLS if there is `authority`.

    Raises Unverified where nginx is not installed.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise Unverified("There is no nginx; install nginx-light.")
    blobs = place / "files/v2" / repository / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / content.digest).open("wb") as file:
        for piece in content.pieces():
            file.write(piece)
    (place / "files" / _READY).touch()
    port = free_port()
    certificate = ""
    if authority is not None:
        pair = authority.issue("nginx", "127.0.0.1")
        certificate = f"ssl_certificate {pair[0]}; ssl_certificate_key {pair[1]};"
    config = place / "nginx.conf"
    config.write_text(
        _NGINX.format(
            # As root it would read files as somebody who may not.
            user=f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else "",
            place=place,
            port=port,
            ssl="ssl" if authority is not None else "",
            certificate=certificate,
            digest=content.digest,
        )
    )
    with running(
        (program, "-p", str(place), "-c", str(config)),
        port=port,
        log=place / "log",
        root=place,
        ready=f"/{_READY}",
        authority=None if authority is None else authority.certificate,
    ) as server:
        yield server


@dataclass(slots=True)
class _Writing:
    server: Server
    size: int
    content: Content
    digest: str = ""

    @property
    def file(self) -> Path:
        return self.server.root / "written"


@contextlib.contextmanager
def _writer(place: Callable[[Stage], Path], stage: Stage) -> Iterator[_Writing]:
    directory = place(stage) / f"holdfast-floor-{os.getpid()}"
    directory.mkdir(parents=True)
    process = subprocess.Popen(
        (sys.executable, "-m", "tests.bench.writer", str(directory / "written")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        server = Server(process, 0, directory / "log", directory)
        yield _Writing(server, stage.scale.bulk, Content(0))
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(directory)


def _write(state: _Writing, meter: Meter) -> None:
    seed = new_seed()
    state.content = Content(state.size, seed=seed)
    _order(state, f"prepare {state.size} {seed}")
    with meter.measure(state.server, state.size / 1e9):
        state.digest = _order(state, "write")


def _order(state: _Writing, words: str) -> str:
    """Have it carried out; what the process says of it."""
    process = state.server.process
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{words}\n".encode())
    process.stdin.flush()
    return process.stdout.readline().decode().strip()


def _was_written(state: _Writing) -> None:
    with state.file.open("rb") as file:
        stored = hashed(iter(lambda: file.read(1024 * 1024), b""))
    if not state.digest == stored == state.content.digest:
        raise Unverified(f"What was written is {stored}, not {state.content.digest}.")


def hash_and_write(place: Callable[[Stage], Path]) -> Floor[_Writing]:
    """SHA-256 of a new blob's bytes, by hashlib, and their way to the disk at `place`, with fsync."""
    return Floor("sha256 + write", lambda stage: _writer(place, stage), _write, _was_written)
