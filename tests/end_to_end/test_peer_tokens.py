"""Tokens between Holdfast and others: Distribution takes ours, and we take somebody else's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from auth.making import htpasswd_line
from tests.support import access
from tests.support.clients import Skopeo, wait_for
from tests.support.engines import program
from tests.support.images import MIB, Layout, layout_blobs, random_layer
from tests.support.servers import Server, distribution, holdfast
from tests.support.tokenserver import ISSUER, SERVICE, Key, Named, TokenServer, token_server

PASSWORDS = {"alice": "alice-secret", "bob": "bob-secret"}
RIGHTS = {"alice": frozenset(("pull", "push")), "bob": frozenset(("pull",))}
CERTIFICATES, FILE, URL = "rootcertbundle", "jwks file", "jwks URL"
TRUSTS: list[tuple[str, Named]] = [
    (CERTIFICATES, "x5c"),
    (CERTIFICATES, "thumbprint"),
    (CERTIFICATES, "libtrust"),
    (FILE, "kid"),
    (URL, "kid"),
]
PEER = "the peer's tokens"
"""The service and the issuer; a Holdfast that gives tokens for another registry calls itself so."""


@dataclass(frozen=True)
class Pair:
    """Holdfast as the token server of a Distribution registry."""

    holdfast: Server
    config: Path
    bundle: Path
    peer: Server

    def token(self, user: str, *scopes: str) -> str:
        answer = httpx.get(
            f"{self.holdfast.url}/auth/token",
            params={"service": PEER, "scope": list(scopes)},
            auth=(user, PASSWORDS[user]),
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])


def command(*arguments: str | Path) -> str:
    line = [sys.executable, "-m", "registry.cli", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("ours")
    lines = [htpasswd_line(*one, 4) for one in PASSWORDS.items()]
    (directory / "users").write_text("\n".join(lines) + "\n")
    (directory / "policy.yml").write_text(
        "version: 1\nallow:\n"
        "  - {who: [user:alice], repositories: [team/**], actions: [pull, push]}\n"
        "  - {who: [user:bob], repositories: [team/**], actions: [pull]}\n"
    )
    builtin = {
        "keys": str(directory / "keys"),
        "htpasswd": str(directory / "users"),
        "policy": str(directory / "policy.yml"),
        "service": PEER,
        "issuer": PEER,
    }
    with ExitStack() as running:
        ours = running.enter_context(
            holdfast(directory, config={"auth": {"builtin": builtin}}, module="tests.support.hasty")
        )
        config = directory / f"config-{ours.port}.yml"
        bundle = directory / "bundle.pem"
        bundle.write_text(command("keys", "certificates", config))
        peer = running.enter_context(peer_of(ours, bundle))
        yield Pair(ours, config, bundle, peer)
        assert "panic" not in peer.output()
    shutil.rmtree(directory)


def peer_of(server: Server, bundle: Path) -> AbstractContextManager[Server]:
    """Distribution that takes the tokens of `server`."""
    token = {
        "realm": f"{server.url}/auth/token",
        "service": PEER,
        "issuer": PEER,
        "rootcertbundle": str(bundle),
    }
    directory = bundle.parent
    peer = program("docker-registry")
    return distribution(directory, peer, root=directory / "peer", auth={"token": token})


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def begin(server: Server, name: str, token: str) -> httpx.Response:
    """Whether a push may begin."""
    url = f"{server.url}/v2/{name}/blobs/uploads/"
    return httpx.post(url, headers=bearer(token), timeout=20)


def test_a_distribution_registry_takes_our_tokens(pair: Pair, skopeo: Skopeo, work: Path) -> None:
    source = Layout(work / "source")
    made = source.image([random_layer(MIB, "peer")])
    source.tag(made, "1")
    there = f"docker://{pair.peer.address}/team/skopeo:1"
    skopeo(
        "copy",
        "-q",
        "--preserve-digests",
        "--dest-tls-verify=false",
        "--dest-creds",
        "alice:alice-secret",
        source.reference("1"),
        there,
    )
    skopeo(
        "copy",
        "-q",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--src-creds",
        "bob:bob-secret",
        there,
        f"oci:{work}/back:1",
    )
    assert layout_blobs(work / "back") == layout_blobs(source.path)
    refused = skopeo(
        "copy",
        "-q",
        "--dest-tls-verify=false",
        "--dest-creds",
        "bob:bob-secret",
        source.reference("1"),
        there.replace(":1", ":2"),
        check=False,
    )
    assert refused.code != 0
    assert "denied" in refused.stderr


def test_it_looks_at_what_our_tokens_grant(pair: Pair) -> None:
    may = pair.token("alice", "repository:team/raw:pull,push")
    assert begin(pair.peer, "team/raw", may).status_code == 202
    assert begin(pair.peer, "team/other", may).status_code == 401
    may_not = pair.token("bob", "repository:team/raw:pull,push")
    refused = begin(pair.peer, "team/raw", may_not)
    assert refused.status_code == 401
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    altered = may[:-4] + ("AAAA" if may[-4:] != "AAAA" else "BBBB")
    assert begin(pair.peer, "team/raw", altered).status_code == 401


def test_several_scopes_in_one_token(pair: Pair) -> None:
    """As clients ask for them that mount a layer."""
    token = pair.token("alice", "repository:team/a:pull,push", "repository:team/b:pull")
    assert begin(pair.peer, "team/a", token).status_code == 202
    assert begin(pair.peer, "team/b", token).status_code == 401


def test_a_rotated_key_counts_once_the_peer_has_read_the_bundle_again(pair: Pair) -> None:
    scope = "repository:team/rotated:pull,push"
    before, old = pair.token("alice", scope), pair.bundle.read_text()
    command("keys", "rotate", pair.config)
    bundle = command("keys", "certificates", pair.config)
    assert old in bundle
    assert bundle.count("BEGIN CERTIFICATE") == old.count("BEGIN CERTIFICATE") + 1

    def signed_anew() -> bool:
        # By each worker, as far as a few new connections tell.
        return all(kid(pair.token("alice", scope)) != kid(before) for _ in range(6))

    wait_for(signed_anew, "the new key signs", 20, every=0.2)
    after = pair.token("alice", scope)
    assert begin(pair.peer, "team/rotated", after).status_code == 401
    assert begin(pair.peer, "team/rotated", before).status_code == 202
    pair.bundle.write_text(bundle)
    with peer_of(pair.holdfast, pair.bundle) as restarted:
        for token in (before, after):
            assert begin(restarted, "team/rotated", token).status_code == 202


def test_keys_without_a_certificate_are_no_bundle(pair: Pair, work: Path) -> None:
    """As somebody brings them who has keys already."""
    settings = yaml.safe_load(pair.config.read_text())
    settings["auth"]["builtin"]["keys"] = str(work / "keys")
    (work / "config.yml").write_text(yaml.safe_dump(settings))
    (work / "keys").mkdir(mode=0o700)
    (work / "keys" / "own.pem").touch(mode=0o600)
    (work / "keys" / "own.pem").write_bytes(
        Key().private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(subprocess.CalledProcessError) as failed:
        command("keys", "certificates", work / "config.yml")
    assert (failed.value.returncode, failed.value.stdout) == (1, "")
    assert "None of the keys has a certificate" in failed.value.stderr
    command("keys", "rotate", work / "config.yml")
    assert command("keys", "certificates", work / "config.yml").count("BEGIN CERTIFICATE") == 1


@dataclass(frozen=True)
class Trusting:
    """Holdfast that trusts a token server by a file or a URL of its keys."""

    server: Server
    tokens: TokenServer
    by: str
    file: Path

    def token(self, user: str, scope: str) -> str:
        """As a client gets it that was sent to the token server."""
        challenge = httpx.get(f"{self.server.url}/v2/", timeout=20).headers["www-authenticate"]
        assert challenge == f'Bearer realm="{self.tokens.realm}",service="{SERVICE}"'
        answer = httpx.get(
            self.tokens.realm,
            params={"service": SERVICE, "scope": scope},
            auth=(user, PASSWORDS[user]),
            timeout=20,
        )
        return str(answer.json()["token"])


def publish(tokens: TokenServer, by: str, file: Path) -> None:
    """Write its keys to the file that the registry looks at, unless it asks for them."""
    file.write_bytes(tokens.certificates() if by == CERTIFICATES else tokens.jwks())


@pytest.fixture(scope="module", params=TRUSTS, ids=lambda pair: "-".join(pair))
def trusting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trusting]:
    by, named = request.param
    directory = tmp_path_factory.mktemp("theirs")
    file = directory / "keys of the token server"
    with token_server(PASSWORDS, RIGHTS) as tokens:
        tokens.named = named
        section = {"realm": tokens.realm, "service": SERVICE, "issuer": ISSUER} | {
            CERTIFICATES: {"rootcertbundle": str(file)},
            FILE: {"jwks": str(file)},
            URL: {"jwks": tokens.jwks_url},
        }[by]
        publish(tokens, by, file)
        with holdfast(directory, config={"auth": {"token": section}}) as server:
            yield Trusting(server, tokens, by, file)
    assert access.failures(server) == []
    shutil.rmtree(directory)


def test_we_take_the_tokens_of_another_server(trusting: Trusting) -> None:
    may = trusting.token("alice", "repository:team/app:pull,push")
    assert begin(trusting.server, "team/app", may).status_code == 202
    may_not = trusting.token("bob", "repository:team/app:pull,push")
    for name, token in (("team/other", may), ("team/app", may_not)):
        refused = begin(trusting.server, name, token)
        assert refused.status_code == 401
        assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


def test_we_take_none_that_it_did_not_sign(trusting: Trusting) -> None:
    """A key of somebody else's, under the same name."""
    stranger = Key()
    stranger.kid = trusting.tokens.keys[-1].kid
    other = replace(trusting.tokens, keys=[stranger])
    refused = begin(trusting.server, "team/app", other.token("alice", ["repository:team/app:push"]))
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


def test_it_may_change_its_keys_while_we_run(trusting: Trusting) -> None:
    scope = "repository:team/app:pull,push"
    before = trusting.token("alice", scope)
    trusting.tokens.keys.append(Key())
    publish(trusting.tokens, trusting.by, trusting.file)
    after = trusting.token("alice", scope)

    def believed() -> bool:
        # By each worker; a new connection goes to any of them.
        answers = [begin(trusting.server, "team/app", after).status_code for _ in range(8)]
        return answers == [202] * len(answers)

    wait_for(believed, "the new key is believed", 20, every=0.2)
    assert begin(trusting.server, "team/app", before).status_code == 202
