"""Certificates that are replaced while the server runs: no request fails, and no broken one is used."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry.server.renewal import RenewableContext, Renewal
from registry.server.settings import TLSSettings
from tests.registry.server.harness import PATIENCE, got, routed
from tests.registry.server.test_workers import serving
from tests.registry.server.tls_harness import Files, SecureClient, secured, serial
from tests.support.clients import run
from tests.support.engines import program

GET = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n"
CLIENTS = 8


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def shown(context: ssl.SSLContext, files: Files) -> int:
    """The serial number of the certificate that a client is shown, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = files.client_context().wrap_bio(to_client, to_server, server_hostname="registry.test")
    waiting = [client, server]
    while waiting:
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    certificate = client.getpeercert()
    assert certificate is not None
    return int(str(certificate["serialNumber"]), 16)


class Watched:
    def __init__(self, settings: TLSSettings) -> None:
        self.context = RenewableContext(settings)
        self.problems: queue.Queue[str | None] = queue.Queue()
        self.renewal = Renewal(self.context, settings, self.problems.put, interval=0.02)


@contextmanager
def watched(settings: TLSSettings) -> Iterator[Watched]:
    watching = Watched(settings)
    watching.renewal.start()
    try:
        yield watching
    finally:
        watching.renewal.stop()


def until(watching: Watched, wanted: Callable[[str | None], bool]) -> str | None:
    problem: str | None = got(watching.problems)
    while not wanted(problem):
        problem = got(watching.problems)
    return problem


def test_files_renamed_over_are_noticed(files: Files) -> None:
    with watched(files.settings()) as watching:
        former = shown(watching.context, files)
        fresh = files.replace()
        until(watching, lambda problem: problem is None)
        assert shown(watching.context, files) == fresh != former


def test_files_written_in_place_are_noticed(files: Files) -> None:
    with watched(files.settings()) as watching:
        fresh = files.write()
        until(watching, lambda problem: problem is None)
        assert shown(watching.context, files) == fresh


def test_a_link_switched_above_the_files_is_noticed(files: Files, tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: tls.crt -> ..data/tls.crt, ..data -> a directory."""

    def version(name: str) -> int:
        directory = tmp_path / name
        directory.mkdir()
        certificate, key = files.issue()
        shutil.copy(certificate, directory / "tls.crt")
        shutil.copy(key, directory / "tls.key")
        (tmp_path / "..new").symlink_to(name)
        os.rename(tmp_path / "..new", tmp_path / "..data")
        return serial(certificate)

    first = version("..1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    settings = TLSSettings(certificate=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key"))
    with watched(settings) as watching:
        assert shown(watching.context, files) == first
        second = version("..2")
        shutil.rmtree(tmp_path / "..1")
        until(watching, lambda problem: problem is None)
        assert shown(watching.context, files) == second


def test_nothing_is_read_while_nothing_changes(files: Files) -> None:
    with watched(files.settings()) as watching:
        current = watching.context.current
        with pytest.raises(queue.Empty):
            watching.problems.get(timeout=0.3)
        assert watching.context.current is current


def test_now_reads_at_once(files: Files) -> None:
    settings = files.settings()
    watching = Watched(settings)
    renewal = Renewal(watching.context, settings, watching.problems.put, interval=3600)
    renewal.start()
    try:
        fresh = files.replace()
        renewal.now()
        assert got(watching.problems) is None
        assert shown(watching.context, files) == fresh
    finally:
        renewal.stop()


def missing(files: Files) -> None:
    files.certificate.unlink()


def half_written(files: Files) -> None:
    data = files.issue()[0].read_bytes()
    files.certificate.write_bytes(data[: len(data) // 2])


def only_the_certificate(files: Files) -> None:
    files.replace(key=False)


def empty_key(files: Files) -> None:
    files.key.write_bytes(b"")


def garbage(files: Files) -> None:
    files.certificate.write_bytes(bytes(range(256)) * 10)


@pytest.mark.parametrize("spoil", [missing, half_written, only_the_certificate, empty_key, garbage])
def test_a_broken_renewal_keeps_the_old(
    files: Files, spoil: Callable[[Files], None], caplog: pytest.LogCaptureFixture
) -> None:
    with watched(files.settings()) as watching:
        former = shown(watching.context, files)
        spoil(files)
        problem = until(watching, lambda problem: problem is not None)
        assert problem is not None
        what = "The" if spoil is missing else "Cannot use the"
        assert problem.startswith(f"{what} certificate {files.certificate}")
        assert problem.endswith("The certificate that was loaded before stays in use.")
        assert watching.context.problem == problem
        assert shown(watching.context, files) == former
        for _ in range(5):  # it is tried again and again, and said once
            assert got(watching.problems) == problem
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
            problem
        ]
        fresh = files.replace()
        until(watching, lambda problem: problem is None)
        assert not watching.context.stale()
        assert shown(watching.context, files) == fresh


def test_authorities_of_clients_are_read_again(files: Files, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Files(tmp_path / "other")
    authorities = tmp_path / "clients.pem"
    shutil.copy(files.authority.certificate, authorities)
    ours, theirs = files.client_context(files.issue()), files.client_context(other.issue())
    app = routed({})
    with secured(app, files.settings(clientcas=(str(authorities),))) as running:
        assert running.server.renewal is not None

        def admitted(context: ssl.SSLContext) -> bool:
            try:
                with running.client(context) as client:
                    return client.ask(GET).status == 200
            except ssl.SSLError:
                return False

        assert (admitted(ours), admitted(theirs)) == (True, False)
        with running.client(ours) as before:
            shutil.copy(other.authority.certificate, authorities)
            running.server.renewal.now()
            eventually(lambda: (admitted(ours), admitted(theirs)) == (False, True))
            assert before.ask(GET).status == 200


def test_the_end_of_the_certificate_in_force_is_known(files: Files) -> None:
    with secured(routed({}), files.settings()) as running:
        assert running.server.renewal is not None
        first = end(files)
        assert running.lifecycle.tls_expiry == first
        garbage(files)
        running.server.renewal.now()
        eventually(lambda: running.lifecycle.tls_problem is not None)
        assert running.lifecycle.tls_expiry == first
        files.authority.days += 30
        files.replace()
        running.server.renewal.now()
        eventually(lambda: running.lifecycle.tls_problem is None)
        eventually(lambda: running.lifecycle.tls_expiry == end(files))
        assert end(files) > first


def end(files: Files) -> float:
    """As openssl has it."""
    return ssl.cert_time_to_seconds(enddate(files.certificate))


def enddate(certificate: Path) -> str:
    said = run([program("openssl"), "x509", "-noout", "-enddate", "-in", str(certificate)]).stdout
    return said.strip().removeprefix("notAfter=")


def test_readiness_can_tell(files: Files) -> None:
    with secured(routed({}), files.settings()) as running:
        assert running.server.renewal is not None
        garbage(files)
        running.server.renewal.now()
        eventually(lambda: running.lifecycle.tls_problem is not None)
        with running.client(files.client_context()) as client:
            assert client.ask(GET).status == 200
        fresh = files.replace()
        running.server.renewal.now()
        eventually(lambda: running.lifecycle.tls_problem is None)
        with running.client(files.client_context()) as client:
            assert client.shown == fresh


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Load:
    """Clients that never stop asking: some on new connections, some on ones they keep."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._over = threading.Event()
        self.failures: list[Exception] = []
        self.requests = [0] * CLIENTS
        self.connections = [0] * CLIENTS
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self, number: int) -> None:
        per_connection = (1, 20, 1_000_000)[number % 3]
        try:
            while not self._over.is_set():
                with SecureClient(self._port, self._context) as client:
                    self.connections[number] += 1
                    for _ in range(per_connection):
                        answer = client.ask(GET)
                        assert (answer.status, answer.body) == (200, b"GET /v2/")
                        self.requests[number] += 1
                        if self._over.wait(0.002):
                            break
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must hear of it
            self.failures.append(error)


def test_renewal_under_load_fails_no_request(files: Files) -> None:
    tls = {"certificate": str(files.certificate), "key": str(files.key)}
    context = files.client_context()
    with serving(tls=tls) as (process, port), Load(port, context) as load:
        certificates = {serial(files.certificate)}

        def everywhere(wanted: int) -> None:
            """Ten new connections in a row see the new certificate: both workers have it."""
            row = 0
            deadline = time.monotonic() + PATIENCE
            while row < 10:
                assert time.monotonic() < deadline
                with SecureClient(port, context) as client:
                    row = row + 1 if client.shown == wanted else 0
                    assert client.shown in certificates

        for renew in (files.replace, files.write, files.replace):
            fresh = renew()
            certificates.add(fresh)
            process.signal(signal.SIGHUP)
            everywhere(fresh)
        files.replace(key=False)
        process.signal(signal.SIGHUP)
        process.until("stays in use")
        everywhere(fresh)
        fresh = files.replace()  # noticed without a signal
        certificates.add(fresh)
        everywhere(fresh)
        before = sum(load.requests)
        eventually(lambda: sum(load.requests) > before + CLIENTS)
    assert load.failures == []
    assert min(load.requests) > 10
    assert load.connections[2] == load.connections[5] == 1  # kept through all renewals


def test_a_worker_that_takes_a_dead_ones_place_has_the_new_certificate(files: Files) -> None:
    tls = {"certificate": str(files.certificate), "key": str(files.key)}
    context = files.client_context()
    with serving(tls=tls, workers=1) as (process, port):
        with SecureClient(port, context) as client:
            pid = int(client.ask(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n").body.split()[0])
        fresh = files.replace()
        os.kill(pid, signal.SIGKILL)
        process.until("another one starts")
        with SecureClient(port, context) as client:
            assert client.shown == fresh
            pid = int(client.ask(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n").body.split()[0])
        files.replace(key=False)
        os.kill(pid, signal.SIGKILL)
        process.until("another one starts")
        with SecureClient(port, context) as client:  # the last good one
            assert client.shown == fresh
            assert client.ask(GET).status == 200
