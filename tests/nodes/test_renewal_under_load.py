"""Signing keys are rotated and certificates renewed on two nodes under load, and no request fails."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography import x509

from auth.making import htpasswd_line
from tests.support import access
from tests.support.certificates import Authority
from tests.support.clients import wait_for
from tests.support.images import OCI_MANIFEST, sha256
from tests.support.registry import Document, image, some_bytes
from tests.support.servers import Server, holdfast
from tests.support.tree import check_tree

CLIENTS = 5
ROUNDS = 3
PASSWORD = "alice-secret"
SCOPE = "repository:renewal/app:pull,push"
PATH = "/v2/renewal/app"
PATIENCE = 25.0


@dataclass
class Pair:
    """Two nodes with the same storage, keys and certificate."""

    directory: Path
    authority: Authority
    servers: list[Server] = field(default_factory=list)
    serials: set[int] = field(default_factory=set)
    """Of the certificates that there were."""

    @property
    def config(self) -> Path:
        return self.directory / f"config-{self.servers[0].port}.yml"

    def renew(self) -> int:
        """Replace the certificate and its key, as certbot's hook does; the new serial number."""
        stem = f"issued-{len(self.serials)}"
        certificate, key = self.authority.issue(stem, "127.0.0.1")
        serial = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        self.serials.add(serial)
        for made, name in ((key, "tls.key"), (certificate, "tls.crt")):
            os.replace(made, self.directory / name)
        return serial

    def rotate(self) -> str:
        """The kid of the new key."""
        command = [sys.executable, "-m", "registry.cli", "keys", "rotate", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.removeprefix("The new key is ").strip().rstrip(".")

    def shown(self, server: Server) -> int:
        """The serial number that a new connection is shown."""
        with (
            socket.create_connection((server.host, server.port), timeout=10) as plain,
            server.trust.wrap_socket(plain, server_hostname=server.host) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path, Authority(tmp_path))
    pair.renew()
    (tmp_path / "users").write_text(htpasswd_line("alice", PASSWORD, 4) + "\n")
    config = {
        "auth": {"builtin": {"keys": str(tmp_path / "keys"), "htpasswd": str(tmp_path / "users")}},
        "http": {
            "tls": {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}
        },
    }
    with ExitStack() as running:
        for _ in range(2):
            started = holdfast(
                tmp_path,
                config=config,
                authority=pair.authority.certificate,
                module="tests.support.hasty",
            )
            pair.servers.append(running.enter_context(started))
        yield pair
    for server in pair.servers:
        assert access.failures(server) == []
    assert check_tree(pair.servers[0].root) == []
    shutil.rmtree(tmp_path)


class Load:
    """Clients that forgive nothing; what goes wrong ends the one that met it, with an error.

    Each has a token of one node and shows it to both, on connections that last and on new ones.
    """

    def __init__(self, servers: list[Server]) -> None:
        self.kids: set[str] = set()
        """Of the keys that signed what clients were given."""
        self.served = [0] * CLIENTS
        self._trust = servers[0].trust
        self._urls = [server.url for server in servers]
        self._enough = threading.Event()

    def stop(self) -> None:
        self._enough.set()

    def run(self, number: int) -> None:
        document = image(some_bytes())
        with httpx.Client(verify=self._trust, timeout=30) as lasting:
            self._log_in(lasting, number)
            self._push(lasting, self._urls[0], number, document)
            for turn in itertools.count():
                if self._enough.is_set():
                    return
                if turn % 10 == 0:
                    self._log_in(lasting, number + turn // 10)
                url = self._urls[turn % 2]
                self._read(lasting, url, number, document)
                if turn % 5 == 0:
                    with httpx.Client(
                        verify=self._trust, timeout=30, headers=lasting.headers
                    ) as new:
                        self._read(new, url, number, document)
                        document = image(some_bytes())
                        self._push(new, url, number, document)
                self.served[number] += 1

    def _log_in(self, client: httpx.Client, number: int) -> None:
        url = f"{self._urls[number % 2]}/auth/token"
        answer = client.get(
            url, params={"service": "holdfast", "scope": SCOPE}, auth=("alice", PASSWORD)
        )
        assert answer.status_code == 200, answer.text
        token = answer.json()["token"]
        self.kids.add(jwt.get_unverified_header(token)["kid"])
        client.headers["Authorization"] = f"Bearer {token}"

    def _read(self, client: httpx.Client, url: str, number: int, document: Document) -> None:
        for reference in (f"client{number}", sha256(document.content)):
            for method in ("HEAD", "GET"):
                answer = client.request(
                    method,
                    f"{url}{PATH}/manifests/{reference}",
                    headers={"Accept": OCI_MANIFEST},
                )
                assert answer.status_code == 200, f"{method} {reference}: {answer.headers}"
        assert answer.content == document.content

    def _push(self, client: httpx.Client, url: str, number: int, document: Document) -> None:
        for blob in document.blobs:
            answer = client.post(
                f"{url}{PATH}/blobs/uploads/", params={"digest": blob.digest}, content=blob.data
            )
            assert answer.status_code == 201, answer.text
        answer = client.put(
            f"{url}{PATH}/manifests/client{number}",
            content=document.content,
            headers={"Content-Type": document.media_type},
        )
        assert answer.status_code == 201, answer.text


def test_no_request_fails_while_keys_and_certificates_change(pair: Pair) -> None:
    load = Load(pair.servers)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load.run, number) for number in range(CLIENTS)]

        def in_use(serial: int, kid: str, before: list[int]) -> bool:
            """By every worker, as far as twelve connections tell; or a client has failed."""
            if any(client.done() for client in clients):
                return True
            shown = (pair.shown(server) for server in pair.servers for _ in range(6))
            more = all(now > then + 2 for now, then in zip(load.served, before, strict=True))
            return kid in load.kids and more and all(one == serial for one in shown)

        try:
            for turn in range(ROUNDS):
                serial, kid = pair.renew(), pair.rotate()
                if turn == 0:  # later the files are noticed without it
                    for server in pair.servers:
                        server.process.send_signal(signal.SIGHUP)
                arrived = partial(in_use, serial, kid, list(load.served))
                wait_for(arrived, f"certificate and key {turn + 1} are in use", PATIENCE, every=0.2)
        finally:
            load.stop()
        for client in clients:
            client.result(30)
    assert len(load.kids) == ROUNDS + 1
    assert min(load.served) > 10
