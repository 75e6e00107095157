"""The processes: start, replacement, and a stop that cuts nobody off before its time."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.server.harness import PATIENCE, Client

ROOT = Path(__file__).parents[3]
PID = b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n"
READY = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"


class Process:
    """The server as a program of its own, and what it has said."""

    def __init__(self, addr: object, environment: dict[str, str], **settings: Any) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.registry.server.served",
                json.dumps({"addr": addr, "workers": 2, "draindelay": 0, **settings}),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def until(self, text: str) -> str:
        """The next line with this text."""
        deadline = time.monotonic() + PATIENCE
        while (line := self._lines.get(timeout=max(0, deadline - time.monotonic()))) is not None:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} is not in {self.said}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while not self._lines.empty():
            if (line := self._lines.get()) is not None:
                self.said.append(line)
        return code

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def serving(
    fail: str = "", *, addr: object = None, **settings: Any
) -> Iterator[tuple[Process, int]]:
    port = free_port()
    process = Process(addr or ["127.0.0.1", port], {"FAIL": fail}, **settings)
    try:
        if not fail:
            process.until("listening on")
        yield process, port
    finally:
        process.end()


def workers(port: int) -> dict[int, int]:
    """Process ids of the workers by number, as far as asking finds them."""
    found = {}
    for _ in range(50):
        with Client(port) as client:
            pid, number = client.ask(PID).body.split()
            found[int(number)] = int(pid)
        if len(found) == 2:
            break
    return found


def test_start_and_stop() -> None:
    with serving() as (process, port):
        with Client(port) as client:
            pid = int(client.ask(PID).body.split()[0])
            assert pid != process.pid
            process.signal(signal.SIGTERM)
            assert client.ended()
        assert process.wait() == 0
        assert process.said.count("before the fork") == 1
        assert process.said.count("lifespan ended") == 2
        assert f"worker died: {pid}" in process.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_finishes(number: int) -> None:
    with serving(draindelay=0.1) as (process, port), Client(port) as client:
        client.say(b"GET /slow?1 HTTP/1.1\r\nHost: a\r\n\r\n")
        process.until("slow begins")
        process.signal(number)
        answer = client.answer()
        assert answer.body == b"done"
        assert answer.headers["connection"] == "close"
        assert process.wait() == 0


def test_the_order_of_a_graceful_stop() -> None:
    """Readiness fails first; connections are still accepted; then no more; then the end."""
    with serving(draindelay=1.5, workers=1) as (process, port):
        with Client(port) as idle, Client(port) as busy, contextlib.ExitStack() as stack:
            assert idle.ask(READY).status == 200
            busy.say(b"GET /slow?3 HTTP/1.1\r\nHost: a\r\n\r\n")
            process.until("slow begins")
            begun = time.monotonic()
            process.signal(signal.SIGTERM)
            status = 200
            while status == 200 and time.monotonic() - begun < 1:
                with Client(port) as client:
                    status = client.ask(READY).status
            assert status == 503
            with Client(port) as client:
                answer = client.ask(PID)
                assert answer.status == 200
                assert answer.headers["connection"] == "close"
            fresh = stack.enter_context(Client(port))
            assert idle.ended()
            assert 1.3 < time.monotonic() - begun < 10
            with pytest.raises(ConnectionRefusedError):
                while True:
                    Client(port).close()
            assert fresh.ask(PID).status == 200  # it had connected, but not spoken yet
            assert busy.answer().body == b"done"
        assert process.wait() == 0


def test_nobody_who_connects_is_cut_off() -> None:
    cut: list[str] = []

    def connect_again_and_again(port: int) -> None:
        while True:
            try:
                client = Client(port)
            except OSError:
                return
            with client:
                try:
                    client.ask(PID)
                except (OSError, ValueError) as error:
                    cut.append(repr(error))

    for _ in range(3):
        with serving(draindelay=0.3) as (process, port):
            crowd = [
                threading.Thread(target=connect_again_and_again, args=[port]) for _ in range(8)
            ]
            for one in crowd:
                one.start()
            time.sleep(0.3)
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            for one in crowd:
                one.join(PATIENCE)
    assert cut == []


def test_a_stop_is_bounded() -> None:
    with serving(draintimeout=1) as (process, port):
        with Client(port) as stalled, Client(port) as slow:
            stalled.say(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            slow.say(b"GET /slow?60 HTTP/1.1\r\nHost: a\r\n\r\n")
            process.until("slow begins")
            begun = time.monotonic()
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert 0.9 < time.monotonic() - begun < 20
        assert "slow was cancelled" in process.said
        assert "lifespan ended" in process.said


def test_a_second_signal_stops_at_once() -> None:
    with serving() as (process, port), Client(port) as client:
        client.say(b"GET /slow?60 HTTP/1.1\r\nHost: a\r\n\r\n")
        process.until("slow begins")
        process.signal(signal.SIGTERM)
        process.until("SIGTERM")
        begun = time.monotonic()
        process.signal(signal.SIGINT)
        assert process.wait() == 0
        assert time.monotonic() - begun < 10


def test_signals_to_the_whole_group_count_once() -> None:
    """As a terminal or a service manager sends them: to the workers and to their parent."""
    with serving() as (process, port), Client(port) as client:
        pids = workers(port).values()
        client.say(b"GET /slow?1 HTTP/1.1\r\nHost: a\r\n\r\n")
        process.until("slow begins")
        for pid in (*pids, process.pid):
            os.kill(pid, signal.SIGTERM)
        assert client.answer().body == b"done"
        assert process.wait() == 0


def test_a_killed_worker_is_replaced() -> None:
    with serving() as (process, port):
        before = workers(port)
        victim = next(iter(before.values()))
        os.kill(victim, signal.SIGKILL)
        process.until(f"worker died: {victim}")
        process.until("SIGKILL; another one starts")
        for _ in range(100):
            after = workers(port)
            if len(after) == 2 and victim not in after.values():
                break
            time.sleep(0.05)
        else:
            raise AssertionError("nobody took the place of the dead worker")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_workers_end_with_their_parent() -> None:
    with serving() as (process, port):
        pids = workers(port).values()
        process.signal(signal.SIGKILL)
        process.until("the parent process is gone")
        assert process.wait() == -signal.SIGKILL
        for pid in pids:
            for _ in range(100):
                if not Path(f"/proc/{pid}").exists():
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("a worker outlived its parent")


def test_hangup_changes_nothing() -> None:
    with serving() as (process, port):
        before = workers(port)
        process.signal(signal.SIGHUP)
        process.until("SIGHUP is reserved")
        for pid in before.values():
            os.kill(pid, signal.SIGHUP)
        assert set(workers(port).values()) <= set(before.values())


@pytest.mark.parametrize(("fail", "reason"), [("make", "no application"), ("startup", "is away")])
def test_workers_that_cannot_start_end_the_server(fail: str, reason: str) -> None:
    with serving(fail) as (process, _):
        assert process.wait() == 1
        said = "\n".join(process.said)
        assert reason in said
        assert "before it could serve; the server stops" in said


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = Process(["127.0.0.1", port], {})
        try:
            assert process.wait() == 1
        finally:
            process.end()
        assert process.said == [
            f"Cannot listen on 127.0.0.1:{port}: address already in use; "
            "stop the other process or set http.addr."
        ]


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with serving(addr=str(path)) as (process, _):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
            assert client.recv(65536).endswith(b"GET /v2/")
        second = Process(str(path), {})
        try:
            assert second.wait() == 1
            assert "address already in use" in second.said[0]
        finally:
            second.end()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert not path.exists()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    key, crt = str(directory / "key.pem"), str(directory / "crt.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    output = ["-keyout", key, "-out", crt]
    subprocess.run([*command.split(), *names, *output], check=True, capture_output=True)
    return crt, key


def test_tls(certificate: tuple[str, str]) -> None:
    crt, key = certificate
    with serving(tls={"certificate": crt, "key": key}) as (process, port):
        context = ssl.create_default_context(cafile=crt)
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as client,
            ):
                client.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
                assert b"Connection: close" in client.recv(65536)
                client.sendall(bytes(90000))
        old = ssl.create_default_context(cafile=crt)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            with old.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert client.recv(65536).endswith(b"GET /v2/")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_client_certificate_may_be_required(certificate: tuple[str, str]) -> None:
    crt, key = certificate
    with serving(tls={"certificate": crt, "key": key, "clientcas": [crt]}) as (_, port):
        context = ssl.create_default_context(cafile=crt)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname="localhost")
        context.load_cert_chain(crt, key)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_missing_certificate_is_one_sentence() -> None:
    process = Process(["127.0.0.1", 0], {}, tls={"certificate": "/no.crt", "key": "/no.key"})
    try:
        assert process.wait() == 1
    finally:
        process.end()
    (sentence,) = process.said
    assert sentence.startswith("The certificate /no.crt cannot be read: No such file or directory.")
    assert sentence.endswith("put it there, or correct http.tls.certificate.")
