"""Identities and tokens that others issue, against a running registry: rotated keys, and where to ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.auth import tokenmaker
from tests.auth.issuer import Issuer
from tests.support.clients import wait_for
from tests.support.servers import Server, holdfast

POLICY = """\
version: 1
allow:
  - name: jobs push what is theirs
    who: [{oidc: {issuer: ci, repository: my-org/app}}]
    repositories: [my-org/app]
    actions: [pull, push]
"""
SCOPE = "repository:my-org/app:pull,push"
PATIENCE = 60.0


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(time.time)
    try:
        yield issuer
    finally:
        issuer.close()


@pytest.fixture
def registry(tmp_path: Path, issuer: Issuer) -> Iterator[Server]:
    policy = tmp_path / "policy.yml"
    policy.write_text(POLICY)
    trusted = {
        "name": "ci",
        "issuer": issuer.url,
        "audiences": ["registry.example.com"],
        "require": {"repository_owner": ["my-org"]},
        "username": "{repository}",
    }
    builtin = {"policy": str(policy), "keys": str(tmp_path / "keys"), "issuers": [trusted]}
    config = {"auth": {"builtin": builtin}}
    with holdfast(
        tmp_path, workers=1, config=config, module="tests.registry.auth.hastened"
    ) as server:
        yield server


def log_in(server: Server, identity: str) -> httpx.Response:
    return httpx.get(
        f"{server.url}/auth/token",
        params={"service": "holdfast", "scope": SCOPE},
        auth=("oidc", identity),
        timeout=30,
    )


def begins_a_push(server: Server, login: httpx.Response) -> bool:
    answer = httpx.post(
        f"{server.url}/v2/my-org/app/blobs/uploads/",
        headers={"Authorization": f"Bearer {login.json()['token']}"},
        timeout=30,
    )
    return answer.status_code == 202


def test_jobs_log_in_across_a_rotation_of_the_issuers_keys(
    registry: Server, issuer: Issuer
) -> None:
    first = log_in(registry, issuer.token("first"))
    assert begins_a_push(registry, first)

    issuer.keys["second"] = ec.generate_private_key(ec.SECP256R1())
    wait_for(
        lambda: log_in(registry, issuer.token("second")).status_code == 200,
        "a job that shows a token of the new key logs in",
        PATIENCE,
        every=1,
    )
    assert begins_a_push(registry, log_in(registry, issuer.token("first"))), "it is published still"

    first_key = issuer.keys.pop("first")
    wait_for(
        lambda: log_in(registry, issuer.token("first", first_key)).status_code == 401,
        "a token of the key that was removed is refused",
        PATIENCE,
        every=1,
    )
    assert begins_a_push(registry, log_in(registry, issuer.token("second")))
    assert registry.process.poll() is None


@pytest.mark.parametrize("path", ["", "/login/tokens"])
def test_a_challenge_names_the_address_that_is_known_to_be_ours(tmp_path: Path, path: str) -> None:
    keys = tmp_path / "jwks"
    keys.write_bytes(tokenmaker.jwks(k1=tokenmaker.RSA))
    token = {
        "service": tokenmaker.SERVICE,
        "issuer": tokenmaker.ISSUER,
        "jwks": str(keys),
        "autoredirect": True,
        **({"autoredirectpath": path} if path else {}),
    }
    config = {"auth": {"token": token}, "http": {"trustedproxies": ["127.0.0.1/32"]}}
    with holdfast(tmp_path, workers=1, config=config) as server:

        def realm(**headers: str) -> str:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = httpx.get(f"{server.url}/v2/a/b/tags/list", headers=given)
            assert answer.status_code == 401
            challenge = answer.headers["www-authenticate"]
            assert f'service="{tokenmaker.SERVICE}"' in challenge
            assert 'scope="repository:a/b:pull"' in challenge
            return challenge.partition('realm="')[2].partition('"')[0]

        path = path or "/auth/token"
        assert realm() == f"{server.url}{path}"
        assert realm(Host="hub.example.com") == f"{server.url}{path}", "whoever asks may say that"
        assert (
            realm(X_Forwarded_Proto="https", X_Forwarded_Host="hub.example.com")
            == f"https://hub.example.com{path}"
        )
        now = int(time.time())
        accepted = tokenmaker.token(iat=now, nbf=now, exp=now + 300)
        answer = httpx.get(
            f"{server.url}/v2/a/b/tags/list", headers={"Authorization": f"Bearer {accepted}"}
        )
        assert answer.status_code == 404, "it may pull, and there is nothing"
