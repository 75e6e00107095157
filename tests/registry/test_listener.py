"""That what is configured of the server is in force."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import MISSING, fields
from pathlib import Path

import httpx

from registry.config import load
from registry.listener import tls_settings
from registry.server.settings import TLSSettings
from tests.support.certificates import Authority
from tests.support.clients import wait_for
from tests.support.servers import holdfast

BALANCER = "127.0.0.9"


def test_every_setting_of_tls_reaches_the_server(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(
        "version: 0.1\nstorage: inmemory\nhttp: {addr: '127.0.0.1:5000', tls: {certificate: /a, key: /b, "
        "minimumtls: tls1.3, clientcas: [/c], clientauth: verify-client-cert-if-given, "
        "ciphersuites: [TLS_AES_128_GCM_SHA256], hsts: 1h}}\n"
    )
    made = tls_settings(load(config, {}).settings)
    for each in fields(TLSSettings):
        assert each.default is MISSING or getattr(made, each.name) != each.default, each.name


def test_hsts_and_ciphers_and_the_proxy_protocol_are_in_force(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("registry", "localhost", "127.0.0.1")
    suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    tls = {"certificate": str(certificate), "key": str(key), "hsts": "1h", "ciphersuites": [suite]}
    http = {"tls": tls, "proxyprotocol": True, "trustedproxies": [BALANCER]}
    with holdfast(
        tmp_path, workers=1, config={"http": http}, authority=authority.certificate
    ) as server:
        answer = httpx.get(f"{server.url}/v2/", verify=server.trust)
        assert answer.headers["Strict-Transport-Security"] == "max-age=3600"
        limited = server.trust
        limited.maximum_version = ssl.TLSVersion.TLSv1_2
        limited.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384")
        with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as plain:
            try:
                limited.wrap_socket(plain, server_hostname="localhost")
            except ssl.SSLError:
                pass
            else:
                raise AssertionError("a suite that was not named is spoken")
        balancer = socket.create_connection(
            ("127.0.0.1", server.port), source_address=(BALANCER, 0)
        )
        with balancer:
            balancer.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 5000\r\n")
            with server.trust.wrap_socket(balancer, server_hostname="localhost") as secure:
                secure.sendall(
                    b"GET /v2/announced/tags/list HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                )
                assert secure.recv(100).startswith(b"HTTP/1.1 404")

        def logged() -> bool:
            lines = server.output().splitlines()
            return any("announced" in line and "192.0.2.7" in line for line in lines)

        wait_for(logged, "the client that the balancer named in the access log")
