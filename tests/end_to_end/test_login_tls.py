"""Real clients over TLS with a private authority: they log in, push, pull, are refused, and say why."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from auth.making import htpasswd_line
from tests.auth.issuer import Issuer
from tests.support import access, clients
from tests.support.balancers import nginx
from tests.support.certificates import Authority
from tests.support.clients import Docker, Outcome
from tests.support.images import EVERY_MANIFEST, sha256
from tests.support.names import LOOPBACK, REGISTRY, TOKENS, Names
from tests.support.nodes import Storage, nodes
from tests.support.servers import Server, free_port, holdfast
from tests.support.tokenserver import ISSUER, SERVICE, WRONG_PASSWORD, TokenServer, token_server
from tests.support.visitors import Visitor, WithContainerd, WithDocker, WithPodman, WithSkopeo

USERS = ("alice", "bob", "docker", "skopeo", "podman", "containerd")
PASSWORDS = {user: f"{user}-secret" for user in USERS}
RIGHTS = {"alice": frozenset(("pull", "push")), "bob": frozenset(("pull",))}
POLICY = """\
version: 1
allow:
  - who: [user:alice]
    repositories: [team/**]
    actions: [pull, push]
  - who: [user:bob]
    repositories: [team/**]
    actions: [pull]
"""
JOBS = """\
version: 1
allow:
  - who: [{oidc: {issuer: ci, ref: refs/heads/main}}]
    repositories: [team/**]
    actions: [pull, push]
  - who: [oidc:ci]
    repositories: [team/**]
    actions: [pull]
"""
VISITORS: Mapping[str, type[Visitor[Any]]] = {
    "docker": WithDocker,
    "skopeo": WithSkopeo,
    "podman": WithPodman,
    "containerd": WithContainerd,
}


@dataclass(frozen=True)
class Guarded:
    """A registry that its clients know as `address`, with TLS of its own or of nginx before two nodes."""

    mode: str
    address: str
    port: int
    authority: Authority
    servers: list[Server]
    tokens: TokenServer
    issuer: Issuer

    def credentials(self, user: str) -> tuple[str, str]:
        """What a client logs in with as alice, who may push, or as bob, who may pull."""
        if self.mode != "oidc":
            return user, PASSWORDS[user]
        branch = {"alice": "main", "bob": "next"}[user]
        return "oidc", self.issuer.token(ref=f"refs/heads/{branch}")

    def wrong_credentials(self, client: str) -> tuple[str, str]:
        """Failures are counted by account, so each client fails with one of its own."""
        if self.mode != "oidc":
            return client, "guess"
        return "oidc", self.issuer.token(aud="somebody else")

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """As a client that finds the name in its own /etc/hosts."""
        trust = ssl.create_default_context(cafile=self.authority.certificate)
        with httpx.Client(verify=trust, timeout=20) as client:
            return client.request(
                method,
                f"https://{LOOPBACK}:{self.port}{path}",
                headers={"Host": self.address, **(headers or {})},
                extensions={"sni_hostname": REGISTRY},
            )

    def authorization(self, scope: str) -> dict[str, str]:
        """What alice shows."""
        if self.mode in ("token", "silly"):
            return {"Authorization": f"Bearer {self.tokens.token('alice', [scope])}"}
        shown = base64.b64encode(":".join(self.credentials("alice")).encode()).decode()
        basic = {"Authorization": f"Basic {shown}"}
        if self.mode == "htpasswd":
            return basic
        answer = self.ask("GET", f"/auth/token?service=holdfast&scope={scope}", basic)
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    def manifest(self, name: str) -> bytes:
        """Of the tag 1."""
        headers = {
            **self.authorization(f"repository:{name}:pull"),
            "Accept": EVERY_MANIFEST,
        }
        answer = self.ask("GET", f"/v2/{name}/manifests/1", headers)
        assert answer.status_code == 200, answer.text
        return answer.content


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Names:
    return Names(tmp_path_factory.mktemp("names"))


@pytest.fixture(scope="module")
def docker(names: Names) -> Iterator[Docker]:
    with clients.docker_engine(names.prefix) as engine:
        yield engine


@pytest.fixture(scope="module", params=["builtin", "oidc", "htpasswd", "token", "silly"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["direct", "nginx"])
def guarded(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
    names: Names,
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp(f"{mode}-{request.param}")
    authority = Authority(directory)
    with ExitStack() as running:
        tokens = running.enter_context(
            token_server(
                PASSWORDS, RIGHTS, tls=authority.issue("tokens", TOKENS, "::1"), name=TOKENS
            )
        )
        issuer = Issuer(time.time)
        running.callback(issuer.close)
        kind = "builtin" if mode == "oidc" else mode
        auth = {kind: section(mode, directory, tokens, authority, issuer)}
        if request.param == "direct":
            certificate, key = authority.issue("registry", REGISTRY, "::1")
            http = {
                "tls": {"certificate": str(certificate), "key": str(key)},
                "host": f"https://{REGISTRY}:{(port := free_port())}",
            }
            server = running.enter_context(
                holdfast(
                    directory,
                    port=port,
                    host=LOOPBACK,
                    authority=authority.certificate,
                    config={"auth": auth, "http": http},
                )
            )
            servers = [server]
        else:
            both = running.enter_context(nodes(Storage(directory), auth=auth))
            front = running.enter_context(
                nginx(
                    directory,
                    [node.port for node in both],
                    authority=authority,
                    tls_host=LOOPBACK,
                    name=REGISTRY,
                )
            )
            servers, port = [node.server for node in both], front.tls_port
        yield Guarded(mode, f"{REGISTRY}:{port}", port, authority, servers, tokens, issuer)
    for server in servers:
        assert access.failures(server) == []
        assert "-secret" not in server.output()
    shutil.rmtree(directory)


def section(
    mode: str, directory: Path, tokens: TokenServer, authority: Authority, issuer: Issuer
) -> dict[str, Any]:
    users, policy = directory / "users", directory / "policy.yml"
    users.write_text("\n".join(htpasswd_line(*one, 4) for one in PASSWORDS.items()) + "\n")
    policy.write_text(JOBS if mode == "oidc" else POLICY)
    if mode == "silly":
        return {"realm": tokens.realm, "service": SERVICE}
    if mode == "oidc":
        trusted = {
            "name": "ci",
            "issuer": issuer.url,
            "audiences": ["registry.example.com"],
            "require": {"repository_owner": ["my-org"]},
            "username": "{repository}",
            "claims": ["ref"],
        }
        return {"policy": str(policy), "keys": str(directory / "keys"), "issuers": [trusted]}
    if mode == "token":
        port = tokens.url.rpartition(":")[2]
        return {
            "realm": tokens.realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "jwks": f"https://[::1]:{port}/keys",
            "jwksca": str(authority.certificate),
        }
    if mode == "builtin":
        keys = {"keys": str(directory / "keys"), "htpasswd": str(users)}
        return {"policy": str(policy), **keys}
    return {"policy": str(policy), "realm": "Holdfast", "path": str(users)}


@pytest.fixture(params=VISITORS)
def visitor(
    request: pytest.FixtureRequest, guarded: Guarded, names: Names, work: Path
) -> Iterator[Visitor[Any]]:
    client = request.getfixturevalue(request.param)
    visitor: Visitor[Any] = VISITORS[request.param](
        client, names, guarded.address, work / "visitor"
    )
    yield visitor
    visitor.leave()


def test_they_log_in_push_pull_and_are_refused(
    guarded: Guarded, visitor: Visitor[Any], request: pytest.FixtureRequest
) -> None:
    client = str(request.node.callspec.params["visitor"])
    image = f"{guarded.address}/team/{client}:1"
    config = visitor.make(image)

    stranger = visitor.log_in(*guarded.credentials("alice"))
    assert stranger.code != 0
    assert "certificate signed by unknown authority" in stranger.text
    visitor.trust(guarded.authority.certificate)

    wrong = visitor.log_in(*guarded.wrong_credentials(client))
    assert wrong.code != 0
    assert of_a_wrong_password(client, guarded.mode) in wrong.text

    done(visitor.log_in(*guarded.credentials("bob")))
    if guarded.mode != "silly":  # which refuses nobody who shows something
        refused = visitor.push(image)
        assert refused.code != 0
        assert of_a_refusal(client, guarded.mode) in refused.text

    done(visitor.log_in(*guarded.credentials("alice")))
    done(visitor.push(image))
    manifest = guarded.manifest(f"team/{client}")
    assert json.loads(manifest)["config"]["digest"] == config

    done(visitor.log_in(*guarded.credentials("bob")))
    pulled, digest = visitor.pull(image)
    done(pulled)
    assert digest == sha256(manifest)


def done(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.text


def of_a_wrong_password(client: str, mode: str) -> str:
    """The registry's sentence where the client passes it on, else the client's own."""
    if client in ("skopeo", "podman"):
        return "invalid username/password"
    if client == "docker" and mode == "builtin":
        return "unauthorized: The user name or the password is wrong."
    if client == "docker" and mode == "oidc":
        return "unauthorized: The token is for another service (aud)."
    if client == "docker" and mode in ("token", "silly"):
        return f"unauthorized: {WRONG_PASSWORD}"
    return "401 Unauthorized"


def of_a_refusal(client: str, mode: str) -> str:
    if mode == "htpasswd" and client != "containerd":
        return f"denied: bob may not pull and push team/{client}."
    if client == "docker":
        return "denied: requested access to the resource is denied"
    if client == "containerd":
        return "403 Forbidden" if mode == "htpasswd" else "insufficient_scope: authorization failed"
    if mode == "token":
        return "unauthorized: The token does not grant what was asked for."
    return f"unauthorized: The token does not allow repository:team/{client}:pull,push."


def test_addresses_are_of_https(guarded: Guarded) -> None:
    challenge = guarded.ask("GET", "/v2/").headers["www-authenticate"]
    realms = {
        "builtin": f'Bearer realm="https://{guarded.address}/auth/token"',
        "oidc": f'Bearer realm="https://{guarded.address}/auth/token"',
        "silly": f'Bearer realm="{guarded.tokens.realm}"',
        "token": f'Bearer realm="{guarded.tokens.realm}"',
        "htpasswd": 'Basic realm="Holdfast"',
    }
    assert challenge.startswith(realms[guarded.mode])
    headers = guarded.authorization("repository:team/addresses:pull,push")
    begun = guarded.ask("POST", "/v2/team/addresses/blobs/uploads/", headers)
    assert begun.status_code == 202
    location = httpx.URL(begun.headers["location"])
    assert (location.scheme, location.netloc.decode()) == ("https", guarded.address)
    assert guarded.ask("DELETE", location.raw_path.decode(), headers).status_code == 204
