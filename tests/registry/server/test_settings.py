"""Settings that cannot be meant, and addresses that cannot be listened on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.server.listening import CannotListen, listen
from tests.registry.server.harness import settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("workers", 0), ("draindelay", -1), ("header_timeout", 0), ("max_connections", 0)],
)
def test_impossible_values_are_named(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value}; it must be "):
        settings(**{name: value})


def test_no_host_means_every_interface() -> None:
    with listen(("", 0)) as listener:
        assert listener.getsockname()[0] in ("::", "0.0.0.0")


def test_localhost_means_ipv4() -> None:
    with listen(("localhost", 0)) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("addr", "sentence"),
    [
        (("192.0.2.1", 5000), "192.0.2.1:5000: this machine has no such address; correct"),
        (("nowhere.invalid", 5000), "nowhere.invalid:5000: the host name does not resolve"),
        ("/no/such/directory/s", "/no/such/directory/s: its directory does not exist; create it"),
    ],
)
def test_why_it_cannot_listen(addr: tuple[str, int] | str, sentence: str) -> None:
    with pytest.raises(CannotListen, match=f"^Cannot listen on {sentence}"):
        listen(addr)


def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(CannotListen):
        listen(str(path))
    assert os.listdir(tmp_path) == ["precious"]
