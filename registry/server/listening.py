"""Opens what the server listens on, once, before there are workers."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Final

BACKLOG: Final = 2048

_ADVICE: Final = {
    errno.EADDRINUSE: ("address already in use", "stop the other process or set http.addr"),
    errno.EADDRNOTAVAIL: ("this machine has no such address", "correct http.addr"),
    errno.EACCES: ("permission denied", "use a port above 1023, or a directory you may write to"),
    errno.ENOENT: ("its directory does not exist", "create it or set http.addr"),
}


class CannotListen(Exception):
    """One sentence for whoever starts the server."""


def described(addr: tuple[str, int] | str) -> str:
    if isinstance(addr, str):
        return addr
    host, port = addr
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(addr: tuple[str, int] | str) -> socket.socket:
    """A listening socket. Raises CannotListen."""
    try:
        return _listen_unix(addr) if isinstance(addr, str) else _listen_tcp(*addr)
    except socket.gaierror as error:
        cause, advice = f"the host name does not resolve ({error.strerror})", "correct http.addr"
    except OSError as error:
        cause, advice = _ADVICE.get(error.errno or 0, (str(error.strerror), "correct http.addr"))
    raise CannotListen(f"Cannot listen on {described(addr)}: {cause}; {advice}.")


def unlisten(addr: tuple[str, int] | str) -> None:
    """Remove the name of a unix socket."""
    if isinstance(addr, str):
        try:
            os.unlink(addr)
        except FileNotFoundError:
            pass


def _listen_tcp(host: str, port: int) -> socket.socket:
    if not host:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        host = "0.0.0.0"  # noqa: S104 - no host means every interface
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)


def _listen_unix(path: str) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more; leave anything else to bind(), which refuses."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)
