"""A worker that speaks TLS, its certificates, and clients that look at what they are shown."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from registry.server.lifecycle import Lifecycle
from registry.server.listening import listen
from registry.server.renewal import RenewableContext
from registry.server.run import WorkerServer, make_server
from registry.server.settings import TLSSettings
from tests.registry.server.harness import PATIENCE, Client, settings
from tests.support.certificates import Authority

NAME = "registry.test"


class Files:
    """The certificate and key that a server reads, and those that will take their place."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.certificate, self.key = directory / "live.pem", directory / "live.key"
        self._directory = directory
        self._issued = 0
        self.replace()

    def issue(self, name: str = NAME) -> tuple[Path, Path]:
        self._issued += 1
        return self.authority.issue(f"issued{self._issued}", name)

    def replace(self, *, certificate: bool = True, key: bool = True) -> int:
        """Rename another pair over the one in use; the serial number of its certificate."""
        fresh, private = self.issue()
        number = serial(fresh)
        if key:
            os.replace(private, self.key)
        if certificate:
            os.replace(fresh, self.certificate)
        return number

    def write(self) -> int:
        """Write another pair into the files in use, in place."""
        fresh, private = self.issue()
        shutil.copyfile(private, self.key)
        shutil.copyfile(fresh, self.certificate)
        return serial(fresh)

    def settings(self, **changes: Any) -> TLSSettings:
        return TLSSettings(
            **{"certificate": str(self.certificate), "key": str(self.key), **changes}
        )

    def client_context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


def serial(certificate: Path) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


class SecureClient(Client):
    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        try:
            self.secured = context.wrap_socket(plain, server_hostname=NAME)
        except BaseException:
            plain.close()
            raise
        self.socket = self.secured
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> SecureClient:
        return self

    @property
    def shown(self) -> int:
        """The serial number of the server's certificate."""
        certificate = self.secured.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


@dataclass(slots=True)
class Secured:
    port: int
    lifecycle: Lifecycle
    server: WorkerServer

    def bare(self) -> Client:
        return Client(self.port)

    def client(self, context: ssl.SSLContext) -> SecureClient:
        return SecureClient(self.port, context)


@contextmanager
def secured(app: ASGIApp, tls: TLSSettings | None, **changes: Any) -> Iterator[Secured]:
    """A worker in a thread of this process."""
    wanted = settings(tls=tls, **changes)
    listener = listen(wanted.addr)
    started = threading.Event()
    lifecycle = Lifecycle(0)
    context = None if tls is None else RenewableContext(tls)
    server = make_server(wanted, lifecycle, app, context, ready=started.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="worker")
    name = listener.getsockname()
    thread.start()
    try:
        assert started.wait(PATIENCE)
        yield Secured(name[1] if isinstance(name, tuple) else 0, lifecycle, server)
    finally:
        server.drain(at_once=True)
        thread.join(PATIENCE)
        assert not thread.is_alive()
