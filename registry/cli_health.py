"""`registry health`: whether the registry of this machine is well, for probes without shell and curl."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import ssl
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from registry.cli_config import FILE, load_settings, stop

if TYPE_CHECKING:
    from registry.config import Settings
    from registry.config.http import Http

LOOPBACK: Final = "127.0.0.1"
NOT_READY: Final = 1

_ANYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised, not listened on
_WANTS_CERTIFICATE: Final = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")


@click.command()
@FILE
@click.option("--live", is_flag=True, help="Ask whether it lives, rather than is ready.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 60), default=4.0, show_default=True, help="Seconds."
)
def health(config: Path | None, live: bool, timeout: float) -> None:
    """Ask the registry of this machine, at the address that CONFIG gives it, whether it is ready.

    Exits with 0 if it is and with 1 if not, with a line that says why. Without CONFIG, it is the one that
    process 1 serves, which in a container is the registry; else found as by `registry serve`.
    """
    settings = load_settings(config or served_by(Path("/proc/1/cmdline")))
    try:
        problem = asked(settings, "/healthz" if live else "/readyz", timeout)
    except TimeoutError:
        problem = f"it does not answer within {timeout:g} s"
    except (OSError, HTTPException) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
    if problem is not None:
        stop(f"The registry at {settings.http.addr} is not well: {problem}.", NOT_READY)
    click.echo("ok")


def served_by(cmdline: Path) -> Path | None:
    """The file that a process with these arguments was told to serve; None if it is no such process."""
    try:
        words = cmdline.read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return None
    names = [Path(word).name for word in words]
    if "registry" not in names:
        return None
    rest = [word for word in words[names.index("registry") + 1 :] if word]
    files = [word for word in rest if word.endswith((".yml", ".yaml"))]
    if rest[:1] == ["serve"]:
        files = [word for word in rest[1:] if not word.startswith("-")]
    return Path(files[0]) if files else None


def asked(settings: Settings, path: str, timeout: float) -> str | None:
    """Why it is not well, or None. Raises OSError and HTTPException if it cannot be asked."""
    http = settings.http
    with contextlib.closing(_connected(http, timeout)) as plain:
        if http.proxyprotocol and _is_announced(http):
            plain.sendall(b"PROXY UNKNOWN\r\n")
        try:
            with contextlib.closing(_secured(plain) if http.tls.certificate else plain) as stream:
                return _answer(stream, path)
        except ssl.SSLError as error:
            # One that asks for a certificate of ours has answered, and we have none.
            if http.tls.clientcas and any(word in str(error) for word in _WANTS_CERTIFICATE):
                return None
            raise


def _connected(http: Http, timeout: float) -> socket.socket:
    from registry.config import TcpEndpoint

    endpoint = http.endpoint
    if isinstance(endpoint, TcpEndpoint):
        host = LOOPBACK if endpoint.host in _ANYWHERE else endpoint.host
        return socket.create_connection((host, endpoint.port), timeout)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(str(endpoint.path))
    except OSError:
        connection.close()
        raise
    return connection


def _is_announced(http: Http) -> bool:
    """Whether the server wants a PROXY header from who asks it from here."""
    own = ipaddress.ip_address(LOOPBACK)
    return any(own in ipaddress.ip_network(str(network)) for network in http.trustedproxies)


def _secured(plain: socket.socket) -> ssl.SSLSocket:
    """The certificate names the registry as clients call it, which is not as it is called here."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls.wrap_socket(plain)


def _answer(stream: socket.socket, path: str) -> str | None:
    connection = HTTPConnection("localhost")
    connection.sock = stream
    connection.request("GET", path, headers={"Connection": "close"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status == 200:
        return None
    with contextlib.suppress(ValueError, AttributeError):
        said = json.loads(body)
        if said.get("draining"):
            return "it is stopping"
        if said.get("storage"):
            return str(said["storage"]).rstrip(".")
    return f"it answers {answer.status}"
