from __future__ import annotations

import pytest

from registry.config import check_exposure
from tests.registry.config.conftest import MINIMAL, Load


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:5000", "127.8.9.1:5000", "[::1]:5000", "localhost:5000", "LOCALHOST.:5000"],
)
def test_loopback_is_not_exposed(load_text: Load, address: str) -> None:
    assert check_exposure(load_text(REGISTRY_HTTP_ADDR=address).settings, False) is None


@pytest.mark.parametrize(
    "address",
    [
        ":5000",
        "0.0.0.0:5000",
        "[::]:5000",
        "192.168.1.1:5000",
        "[fe80::1]:5000",
        "registry.example:5000",
        "localhost.example:5000",
    ],
)
def test_anything_else_is_refused_unless_asked_for(load_text: Load, address: str) -> None:
    settings = load_text(REGISTRY_HTTP_ADDR=address).settings
    refusal = check_exposure(settings, False)
    assert refusal is not None
    assert address in refusal
    assert "--insecure-anonymous" in refusal
    assert "127.0.0.1:5000" in refusal
    assert check_exposure(settings, True) is None


def test_a_socket_is_not_exposed(load_text: Load) -> None:
    loaded = load_text(MINIMAL + "http: {net: unix, addr: /run/registry.sock}\n")
    assert check_exposure(loaded.settings, False) is None


def test_built_in_defaults_are_not_exposed(load_text: Load) -> None:
    assert check_exposure(load_text(None).settings, False) is None


@pytest.mark.parametrize(
    ("environ", "could"),
    [
        ({"STORAGE_DELETE_ENABLED": "true"}, "could pull, push and delete."),
        ({"STORAGE_DELETE_ENABLED": "false"}, "could pull and push."),
        ({"STORAGE_MAINTENANCE_READONLY": "true", "STORAGE_DELETE_ENABLED": "true"}, "could pull."),
    ],
)
def test_the_refusal_says_what_strangers_could_do(
    load_text: Load, environ: dict[str, str], could: str
) -> None:
    loaded = load_text(**{f"REGISTRY_{name}": value for name, value in environ.items()})
    refusal = check_exposure(loaded.settings, False)
    assert refusal is not None
    assert f"anyone who reaches this port {could}" in refusal


TLS = "  tls: {certificate: /tls.crt, key: /tls.key}\n"
BUILTIN = "auth: {builtin: {keys: /keys, users: /users}}\n"
AUTOREDIRECT = "auth: {token: {autoredirect: true, service: s, issuer: i, jwks: /keys}}\n"


@pytest.mark.parametrize("auth", [BUILTIN, AUTOREDIRECT])
def test_a_certificate_needs_the_name_that_it_is_for(load_text: Load, auth: str) -> None:
    (warning,) = load_text(f"{MINIMAL}{auth}http:\n{TLS}").warnings
    assert warning.startswith("http.host: is not set, so clients are sent for tokens to the bare")


@pytest.mark.parametrize(
    "text",
    [
        f"{BUILTIN}http:\n  host: https://registry.example.com\n{TLS}",
        f"{BUILTIN}http:\n  trustedproxies: [10.0.0.1]\n{TLS}",
        BUILTIN.replace("keys:", "realm: https://registry.example.com/auth/token, keys:")
        + f"http:\n{TLS}",
        AUTOREDIRECT.replace("autoredirect: true", "realm: https://tokens.example.com/")
        + f"http:\n{TLS}",
        f"http:\n{TLS}",
        BUILTIN,
    ],
)
def test_where_clients_find_the_token_server_by_its_name(load_text: Load, text: str) -> None:
    assert load_text(MINIMAL + text).warnings == ()
