"""From the settings of the `token` mode to an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from auth.bearer import TokenAuthorizer
from auth.external import TokenSettings, key_source, token_authorizer
from auth.jwk import libtrust_fingerprint
from auth.model import Asking, Refused, repository
from auth.watched import Unusable
from tests.auth import tokenmaker as make
from tests.auth.tokenmaker import claims, header, sign

SETTINGS = TokenSettings(make.SERVICE, make.ISSUER, "https://auth.example.com/token")
PULL = [repository("a/b", "pull")]


def token(**changes: Any) -> str:
    now = int(time.time())
    return sign(header(**changes), claims(iat=now, nbf=now, exp=now + 300))


def authorizer(settings: TokenSettings) -> TokenAuthorizer:
    return token_authorizer(settings, key_source(settings))


def name_of(settings: TokenSettings, credentials: str) -> str:
    asking = Asking(f"Bearer {credentials}")
    return asyncio.run(authorizer(settings).authorize(asking, PULL)).name


def test_the_keys_come_from_a_file_a_server_or_certificates(tmp_path: Path) -> None:
    jwks, bundle = tmp_path / "jwks.json", tmp_path / "bundle.pem"
    jwks.write_bytes(make.jwks(k1=make.RSA))
    bundle.write_bytes(make.pem(make.certificate(make.RSA)))
    by_file = dataclasses.replace(SETTINGS, jwks=str(jwks))
    by_bundle = dataclasses.replace(SETTINGS, rootcertbundle=str(bundle))
    libtrust = libtrust_fingerprint(make.RSA.public_key())
    assert name_of(by_file, token()) == "alice"
    assert name_of(by_bundle, token(kid=libtrust)) == "alice"
    with pytest.raises(Refused):
        name_of(by_bundle, token())
    both = dataclasses.replace(by_file, rootcertbundle=str(bundle))
    assert name_of(both, token()) == name_of(both, token(kid=libtrust)) == "alice"
    server = make.Server()
    try:
        server.answer = (200, {}, make.jwks(k1=make.RSA))
        by_url = dataclasses.replace(SETTINGS, jwks=server.url)
        assert name_of(by_url, token()) == "alice"
    finally:
        server.close()


def test_a_key_server_with_a_private_authority(tmp_path: Path) -> None:
    now = int(time.time())
    root = make.certificate(make.RSA, "private", ca=True, now=now)
    leaf = make.certificate(
        make.P256, "127.0.0.1", by=(make.RSA, root), now=now, address="127.0.0.1"
    )
    (tmp_path / "ca.pem").write_bytes(make.pem(root))
    (tmp_path / "leaf.pem").write_bytes(make.pem(leaf) + make.private_pem(make.P256))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")
    server = make.Server(context)
    try:
        server.answer = (200, {}, make.jwks(k1=make.RSA))
        settings = dataclasses.replace(SETTINGS, jwks=server.url)
        with pytest.raises(Exception, match="cannot be fetched"):
            name_of(settings, token())
        trusting = dataclasses.replace(settings, jwks_ca=str(tmp_path / "ca.pem"))
        assert name_of(trusting, token()) == "alice"
    finally:
        server.close()


def test_the_realm_may_follow_the_client(tmp_path: Path) -> None:
    (tmp_path / "jwks").write_bytes(make.jwks(k1=make.RSA))
    settings = TokenSettings(
        make.SERVICE, make.ISSUER, jwks=str(tmp_path / "jwks"), autoredirect=True
    )
    with pytest.raises(Refused) as refused:
        asyncio.run(
            authorizer(settings).authorize(Asking(base_url="https://hub.example.com"), PULL)
        )
    assert 'realm="https://hub.example.com/auth/token"' in refused.value.challenge


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "rootcertbundle or a jwks"),
        ({"jwks": "http://keys.example.com/"}, "https"),
        ({"jwks": "ftp://keys.example.com/"}, "https"),
        ({"jwks": "https://keys.example.com/", "realm": ""}, "realm"),
        ({"jwks": "https://keys.example.com/", "issuer": ""}, "issuer"),
        ({"jwks": "https://keys.example.com/", "service": ""}, "service"),
        ({"jwks": "https://keys.example.com/", "signingalgorithms": ("none",)}, "none"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        authorizer(dataclasses.replace(SETTINGS, **changes))


def test_files_that_are_not_there() -> None:
    for settings in (
        dataclasses.replace(SETTINGS, jwks="/nowhere"),
        dataclasses.replace(SETTINGS, rootcertbundle="/nowhere"),
    ):
        with pytest.raises(Unusable, match="/nowhere"):
            authorizer(settings)
