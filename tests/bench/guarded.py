"""Rows about who may do what: requests that show a token, and giving out tokens."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt

from auth.making import htpasswd_line
from tests.bench.content import Content
from tests.bench.measure import Figure, Floor, Meter, Row, Stage, Target
from tests.bench.small import CONNECTIONS, image
from tests.bench.swarm import Expected, ask
from tests.bench.transfers import with_digest
from tests.bench.wire import Unverified, Wire, request
from tests.support.servers import Server, free_port, running
from tests.support.tokenserver import ISSUER, SERVICE, TokenServer

SHARE = 0.8
"""Of the rate of requests that anybody may make, what those with a token are to reach at least."""

ISSUED = 500
"""Tokens in a second, at least."""

_IMAGE = "application/vnd.oci.image.manifest.v1+json"
_REPOSITORY = "team/bench"
_SCOPE = f"repository:{_REPOSITORY}:pull,push"
USER, PASSWORD = "bench", "a password"
_LIFETIME = 3600

Headers = Mapping[str, str]


@dataclass(slots=True)
class _Guarded:
    server: Server
    count: int
    headers: Headers
    manifest: bytes
    digest: str


def _builtin(place: Path) -> dict[str, Any]:
    """Every request of a user by the policy, as it is for those who have one."""
    place.mkdir(parents=True)
    (place / "users").write_text(htpasswd_line(USER, PASSWORD, 10) + "\n")
    (place / "policy.yml").write_text(
        "version: 1\n"
        "groups: {team: [bench]}\n"
        "allow:\n"
        "  - {who: [group:team], repositories: [team/**], actions: [pull, push]}\n"
        "deny:\n"
        "  - {who: [everybody], repositories: [team/frozen], actions: [push]}\n"
    )
    section = {
        "keys": str(place / "keys"),
        "htpasswd": str(place / "users"),
        "policy": str(place / "policy.yml"),
    }
    return {"auth": {"builtin": section}}


def _external(place: Path, tokens: TokenServer) -> dict[str, Any]:
    """The same token server by its certificate, which both registries take."""
    place.mkdir(parents=True)
    (place / "bundle.pem").write_bytes(tokens.certificates())
    section = {
        "realm": "http://127.0.0.1:9/token",
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(place / "bundle.pem"),
    }
    return {"auth": {"token": section}}


def _basic() -> Headers:
    shown = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {shown}"}


def _token_path() -> str:
    return f"/auth/token?{urlencode({'service': 'holdfast', 'scope': _SCOPE})}"


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


@contextlib.contextmanager
def _with_token(stage: Stage) -> Iterator[_Guarded]:
    """Ours with tokens of its own; another registry with those of a token server that it trusts."""
    place = stage.directory.with_name(f"{stage.directory.name}-access")
    if stage.contender.name == "holdfast":
        with stage.contender.start(stage.directory, more=_builtin(place), status=401) as server:
            with Wire(server.port) as wire:
                head, body = wire.ask("GET", _token_path(), _basic())
            token = _token_of(head.expect(200, "A token").status, body)
            yield _pushed(server, stage, _bearer(token))
        return
    tokens = TokenServer({}, {USER: frozenset(("pull", "push"))}, named="x5c")
    more = _external(place, tokens)
    with stage.contender.start(stage.directory, more=more, status=401) as server:
        shown = _bearer(tokens.token(USER, [_SCOPE], lifetime=_LIFETIME))
        yield _pushed(server, stage, shown)


@contextlib.contextmanager
def _with_nothing(stage: Stage) -> Iterator[_Guarded]:
    with stage.contender.start(stage.directory) as server:
        yield _pushed(server, stage, {})


def _pushed(server: Server, stage: Stage, headers: Headers) -> _Guarded:
    """An image of ten layers, as the rows without access control have it."""
    layers, config = [Content(1000) for _ in range(10)], Content(2000)
    manifest, digest = image(layers, config)
    with Wire(server.port) as wire:
        for content in (*layers, config):
            begun, _ = wire.ask("POST", f"/v2/{_REPOSITORY}/blobs/uploads/", headers, b"")
            place = with_digest(begun.expect(202, "POST").location, content.digest)
            put, _ = wire.ask("PUT", place, headers, b"".join(content.pieces()))
            put.expect(201, "PUT of a blob")
        path = f"/v2/{_REPOSITORY}/manifests/1"
        put, _ = wire.ask("PUT", path, {**headers, "Content-Type": _IMAGE}, manifest)
        put.expect(201, "PUT of the manifest")
    return _Guarded(server, stage.scale.requests, headers, manifest, digest)


def _get_manifests(state: _Guarded, meter: Meter) -> None:
    path = f"/v2/{_REPOSITORY}/manifests/1"
    headers = {"Accept": _IMAGE, **state.headers}
    question = request("GET", path, f"127.0.0.1:{state.server.port}", headers)
    expected = Expected(len(state.manifest), state.digest, state.manifest)
    with meter.measure(state.server, state.count / 1000):
        ask(state.server.port, question, expected, count=state.count, connections=CONNECTIONS)


def _strangers_are_refused(state: _Guarded) -> None:
    """Every answer was checked as it came; this is that the token was what opened it."""
    with Wire(state.server.port) as wire:
        head, _ = wire.ask("GET", f"/v2/{_REPOSITORY}/manifests/1", {"Accept": _IMAGE})
    head.expect(401, "GET of a manifest without a token")


def _nobody_is_refused(state: _Guarded) -> None:
    """Every answer was checked as it came."""


@dataclass(slots=True)
class _Issuing:
    server: Server
    count: int
    path: str
    keys: str
    service: str
    tokens: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Issued(Expected):
    """An answer with a token; each is kept."""

    into: list[str] = field(default_factory=list)

    def check(self, head: bytes, body: bytes) -> None:
        self.into.append(_token_of(int(head.split(b" ", 2)[1]), body))


def _token_of(status: int, body: bytes) -> str:
    answer = json.loads(body)
    token = answer.get("token")
    if status != 200 or not isinstance(token, str):
        raise Unverified(f"A question for a token was answered {status}.")
    return token


@contextlib.contextmanager
def _token_server(stage: Stage) -> Iterator[_Issuing]:
    """Ours; where the contender has none, the plain one that its operator would have to write."""
    place = stage.directory.with_name(f"{stage.directory.name}-access")
    count = stage.scale.requests
    if stage.contender.name == "holdfast":
        with stage.contender.start(stage.directory, more=_builtin(place), status=401) as server:
            yield _Issuing(server, count, _token_path(), "/auth/jwks", "holdfast")
        return
    stage.directory.mkdir(parents=True)
    port = free_port()
    command = (sys.executable, "-m", "tests.bench.plaintokens", str(port))
    log = stage.directory / "log"
    with running(command, port=port, log=log, root=stage.directory, ready="/keys") as server:
        query = urlencode({"service": SERVICE, "scope": _SCOPE})
        yield _Issuing(server, count, f"/token?{query}", "/keys", SERVICE)


def _issue(state: _Issuing, meter: Meter) -> None:
    """The password is checked once, at most: from then on it is remembered, or never was hashed."""
    question = request("GET", state.path, f"127.0.0.1:{state.server.port}", _basic())
    state.tokens.clear()
    port = state.server.port
    ask(port, question, _Issued(0, "", b"", []), count=CONNECTIONS * 4, connections=CONNECTIONS)
    with meter.measure(state.server, state.count / 1000):
        ask(
            port,
            question,
            _Issued(0, "", b"", state.tokens),
            count=state.count,
            connections=CONNECTIONS,
        )


def _tokens_are_good(state: _Issuing) -> None:
    """Each is one of its own, and its signature is that of a published key."""
    with Wire(state.server.port) as wire:
        head, body = wire.ask("GET", state.keys)
    head.expect(200, "GET of the keys")
    known = {key.key_id: key for key in jwt.PyJWKSet.from_dict(json.loads(body)).keys}
    ids = set()
    for token in state.tokens:
        key = known[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, ["ES256"], audience=state.service)
        if [each["name"] for each in claims["access"]] != [_REPOSITORY]:
            raise Unverified("A token does not grant what was asked for.")
        ids.add(claims["jti"])
    if len(ids) != state.count:
        raise Unverified(f"{state.count} questions brought {len(ids)} tokens.")


ROWS = (
    Row(
        name="auth-manifest",
        title="GET of a manifest by tag, with a token",
        figure=Figure.CPU,
        unit="1,000 requests",
        setup=_with_token,
        run=_get_manifests,
        verify=_strangers_are_refused,
        # The client's own work makes durations more alike than the server's share of them is.
        target=Target(floor=1 / SHARE),
        floor=Floor("anonymous", _with_nothing, _get_manifests, _nobody_is_refused),
    ),
    Row(
        name="token-issue",
        title="giving out tokens; the peer is a plain token server",
        figure=Figure.WALL,
        unit="1,000 tokens",
        setup=_token_server,
        run=_issue,
        verify=_tokens_are_good,
        target=Target(figure=1000 / ISSUED),
        further=((Figure.CPU, None),),
    ),
)
