"""Real load balancers in front of Holdfast nodes, with the configuration that operators get.

What runs is deploy/nginx.conf and deploy/haproxy.cfg, with the addresses and certificates replaced that an
operator replaces. Each replacement must find what it replaces, so the files cannot drift from the tests.
"""

from __future__ import annotations

import contextlib
import getpass
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.certificates import Authority
from tests.support.engines import program
from tests.support.s3 import await_answer
from tests.support.servers import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ACCELERATED = {"http": {"accelredirect": "/holdfast-blobs/"}}
"""For nodes behind nginx, which then sends blobs from the disk itself."""
NODES = ("registry-1.internal:5000", "registry-2.internal:5000")
"""The nodes, as both files call them."""


@dataclass(frozen=True, slots=True)
class Balancer:
    """A running balancer, without TLS at `port` and with it at `tls_port`."""

    name: str
    port: int
    tls_port: int
    authority: Path
    """The certificate by which a client trusts `tls_url`."""
    log: Path
    """What it printed; nginx also writes there a line for each request."""
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class Balancing(Protocol):
    def __call__(
        self, directory: Path, nodes: Sequence[int], *, root: Path | None = None
    ) -> AbstractContextManager[Balancer]:
        """Starts a balancer in a directory of its own, in front of two nodes on these loopback ports.

        `root` is the tree of nodes that are ACCELERATED, which HAProxy has no use for.
        """


_NGINX = """
daemon off;
user {user};
pid {directory}/pid;
worker_processes 1;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format routed '$request_method $request_uri $status $upstream_addr $upstream_status';
    access_log {directory}/log routed;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxied;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/holdfast.conf;
}}
"""

_HAPROXY = """
global
    log stdout format raw local0
    maxconn 1000
    nbthread 1
"""


@contextlib.contextmanager
def nginx(
    directory: Path,
    nodes: Sequence[int],
    *,
    authority: Authority | None = None,
    tls_host: str = "127.0.0.1",
    name: str = "127.0.0.1",
    root: Path | None = None,
    user: str = "",
) -> Iterator[Balancer]:
    """`name` is what the certificate is for, `tls_host` where it is shown.

    `root` is the storage's directory, for nodes that are ACCELERATED, and `user` who reads it: by default
    who runs the tests.
    """
    executable = program("nginx")
    port, tls_port = free_port(), free_port()
    authority = authority or Authority(directory)
    certificate, key = authority.issue("balancer", name)
    replacements = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "listen 443 ssl": f"listen {tls_host}:{tls_port} ssl",
        "/etc/nginx/registry.pem": str(certificate),
        "/etc/nginx/registry.key": str(key),
        "/var/lib/registry/": f"{root or '/var/lib/registry'}/",
    }
    _fill_in("nginx.conf", nodes, replacements, directory / "holdfast.conf")
    main = directory / "nginx.conf"
    main.write_text(_NGINX.format(directory=directory, user=user or getpass.getuser()))
    command = [executable, "-p", str(directory), "-c", str(main)]
    with _running("nginx", command, directory, (port, tls_port), authority) as balancer:
        yield balancer


@contextlib.contextmanager
def haproxy(
    directory: Path, nodes: Sequence[int], *, root: Path | None = None
) -> Iterator[Balancer]:
    executable = program("haproxy")
    port, tls_port = free_port(), free_port()
    authority = Authority(directory)
    certificate, key = authority.issue("registry", "127.0.0.1")
    both = directory / "both.pem"
    both.touch(mode=0o600)
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    replacements = {
        "bind :80 ": f"bind 127.0.0.1:{port} ",
        "bind :443 ssl": f"bind 127.0.0.1:{tls_port} ssl",
        "/etc/haproxy/registry.pem": str(both),
    }
    _fill_in("haproxy.cfg", nodes, replacements, directory / "holdfast.cfg")
    main = directory / "haproxy.cfg"
    main.write_text(_HAPROXY)
    command = [executable, "-db", "-f", str(main), "-f", str(directory / "holdfast.cfg")]
    with _running("haproxy", command, directory, (port, tls_port), authority) as balancer:
        yield balancer


BALANCERS: Mapping[str, Balancing] = {"nginx": nginx, "haproxy": haproxy}


def _fill_in(
    name: str, nodes: Sequence[int], replacements: Mapping[str, str], target: Path
) -> None:
    text = (DEPLOY / name).read_text()
    addresses = {place: f"127.0.0.1:{port}" for place, port in zip(NODES, nodes, strict=True)}
    for old, new in {**addresses, **replacements}.items():
        assert text.count(old) == 1, f"deploy/{name} has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    target.write_text(text)


@contextlib.contextmanager
def _running(
    name: str,
    command: Sequence[str],
    directory: Path,
    ports: tuple[int, int],
    authority: Authority,
) -> Iterator[Balancer]:
    """Its nodes need not be there yet: it says 503 then, and is ready all the same."""
    log = directory / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program("setpriv"), "--pdeathsig", "TERM", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    balancer = Balancer(name, *ports, authority.certificate, log, process)
    try:
        await_answer(balancer.url, process, [log])
        yield balancer
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
