"""`registry health`: whom it asks, what it says, and its exit codes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from registry.cli import main
from registry.cli_health import served_by
from registry.config import source
from tests.support.certificates import Authority
from tests.support.clients import wait_for
from tests.support.servers import free_port, holdfast

UNAVAILABLE = "HTTP/1.1 503 Service Unavailable"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REGISTRY_")]:
        monkeypatch.delenv(name)


def asked(directory: Path, http: dict[str, Any], *options: str) -> Result:
    """What the command says of a registry with this configuration."""
    path = directory / "asked.yml"
    settings = {"version": "0.1", "storage": "inmemory", "http": {"workers": 1, **http}}
    path.write_text(yaml.safe_dump(settings))
    return CliRunner().invoke(main, ["health", *options, str(path)])


@contextmanager
def answering(text: str | None, path: str | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A peer that answers one connection with `text`, or with silence; its port, and what it read.

    It listens on a port of this machine, or at `path`.
    """
    heard: list[bytes] = []
    ended = threading.Event()
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as listener:
        listener.bind(path or ("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(30)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(4096))
                if text is None:
                    ended.wait(30)
                else:
                    connection.sendall(text.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield 0 if path else listener.getsockname()[1], heard
        finally:
            ended.set()
            thread.join(30)


def reply(head: str, body: str = "") -> str:
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def test_a_registry_that_is_well(tmp_path: Path) -> None:
    with holdfast(tmp_path, workers=1) as server:
        for options in ((), ("--live",)):
            result = asked(tmp_path, {"addr": f":{server.port}"}, *options)
            assert (result.exit_code, result.output) == (0, "ok\n")


def test_over_tls_by_whatever_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("node", "registry.example.com", "127.0.0.1")
    tls = {"certificate": str(certificate), "key": str(key)}
    with holdfast(
        tmp_path, workers=1, config={"http": {"tls": tls}}, authority=authority.certificate
    ) as server:
        result = asked(tmp_path, {"addr": server.address, "tls": tls})
        assert (result.exit_code, result.output) == (0, "ok\n")


def test_one_that_wants_a_certificate_has_answered(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("node", "127.0.0.1")
    tls = {"certificate": str(certificate), "key": str(key)}
    tls["clientcas"] = str(authority.certificate)
    http = {"addr": f"127.0.0.1:{free_port()}", "tls": tls}
    assert asked(tmp_path, http).exit_code == 1
    process = subprocess.Popen(
        [sys.executable, "-m", "registry.cli", "serve", str(tmp_path / "asked.yml")],
        stderr=subprocess.DEVNULL,
    )
    again = ["health", str(tmp_path / "asked.yml")]
    try:
        wait_for(lambda: CliRunner().invoke(main, again).output == "ok\n", "the registry is well")
    finally:
        process.terminate()
        process.wait(30)


def test_where_the_peer_is_announced(tmp_path: Path) -> None:
    announced = {"proxyprotocol": True, "trustedproxies": ["127.0.0.0/8"]}
    with answering(reply("HTTP/1.1 200 OK")) as (port, heard):
        result = asked(tmp_path, {"addr": f":{port}", **announced})
    assert (result.exit_code, result.output) == (0, "ok\n")
    assert heard[0].startswith(b"PROXY UNKNOWN\r\n")
    announced["trustedproxies"] = ["10.0.0.0/8"]
    with answering(reply("HTTP/1.1 200 OK")) as (port, heard):
        asked(tmp_path, {"addr": f":{port}", **announced})
    assert heard[0].startswith(b"GET /readyz ")


def test_on_a_socket_of_this_machine(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with answering(reply("HTTP/1.1 200 OK"), path) as (_, heard):
        result = asked(tmp_path, {"net": "unix", "addr": path}, "--live")
    assert result.exit_code == 0
    assert heard[0].startswith(b"GET /healthz ")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(UNAVAILABLE, '{"storage": "The disk is full.", "draining": false}'), "The disk is full"),
        (reply(UNAVAILABLE, '{"storage": "works", "draining": true}'), "it is stopping"),
        (reply(UNAVAILABLE, "[]"), "it answers 503"),
        (reply("HTTP/1.1 404 Not Found", "<html>"), "it answers 404"),
        ("220 mail.example.com\r\n", "220 mail.example.com"),
        (None, "it does not answer within 0.3 s"),
    ],
)  # fmt: skip
def test_one_that_is_not_well(tmp_path: Path, answer: str | None, why: str) -> None:
    with answering(answer) as (port, _):
        result = asked(tmp_path, {"addr": f":{port}"}, "--timeout", "0.3")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"The registry at :{port} is not well: {why}")


def test_one_that_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    result = asked(tmp_path, {"addr": f"127.0.0.1:{port}"})
    assert result.exit_code == 1
    assert "Connection refused" in result.stderr
    result = asked(tmp_path, {"net": "unix", "addr": str(tmp_path / "absent")})
    assert result.exit_code == 1
    assert "No such file" in result.stderr


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("registry serve", None),
        ("/opt/holdfast/bin/python /opt/holdfast/bin/registry serve", None),
        ("/opt/holdfast/bin/python /opt/holdfast/bin/registry serve /etc/r.yml", "/etc/r.yml"),
        ("registry serve --insecure-anonymous /etc/strange", "/etc/strange"),
        ("registry /etc/r.yml", "/etc/r.yml"),
        ("/bin/registry registry serve /etc/r.yaml", "/etc/r.yaml"),
        ("/sbin/init", None),
        ("sh -c sleep", None),
    ],
)
def test_the_file_that_process_1_serves(tmp_path: Path, words: str, file: str | None) -> None:
    cmdline = tmp_path / "cmdline"
    cmdline.write_bytes(words.replace(" ", "\0").encode() + b"\0")
    assert served_by(cmdline) == (None if file is None else Path(file))


def test_no_such_process(tmp_path: Path) -> None:
    assert served_by(tmp_path / "absent") is None


def test_a_configuration_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "DEFAULT_PATHS", ())
    assert asked(tmp_path, {"addr": "x"}).exit_code == 2
