"""Every route that the registry has, asked by every kind of caller: only what a rule gives is given.

The routes come from the router itself, so that a new one is asked too, and fails here until somebody has
said who may use it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from auth.making import htpasswd_line
from registry.access import RULES
from registry.app import HANDLERS, Application
from registry.config import load
from registry.drivers import make_driver
from registry.middleware import Observe
from registry.parsing import Kind
from registry.server.lifecycle import Lifecycle
from registry.worker import Worker
from tests.support.registry import Registry, digest_of
from tests.support.servers import holdfast

OPEN = {
    "/": "what Distribution answers to a balancer's probe",
    "/healthz": "probes have no credentials; it says that the process lives",
    "/readyz": "probes have no credentials; it names no path and no user",
    "/metrics": "scrapers have none by default; balancers keep it to themselves",
    "/auth/token": "where credentials are shown",
    "/auth/jwks": "public keys",
}
"""The routes that need no right, and why that is as it should be."""

NOTHING = digest_of(b"")
NOWHERE = "0c337451-7bba-44a7-907d-2be42e7fb013"
ABSENT = f"sha256:{'0' * 64}"
PATHS: Mapping[Kind, str] = {
    Kind.BASE: "",
    Kind.CATALOG: "_catalog",
    Kind.TAGS: "{name}/tags/list",
    Kind.MANIFEST: "{name}/manifests/absent",
    Kind.BLOB: f"{{name}}/blobs/{ABSENT}",
    Kind.UPLOADS: "{name}/blobs/uploads/",
    Kind.UPLOAD: f"{{name}}/blobs/uploads/{NOWHERE}",
    Kind.REFERRERS: f"{{name}}/referrers/{ABSENT}",
}
"""Of content that is not there, so that what is allowed changes nothing either."""

NAME = "team/app"
STRANGER = ""
ROLES: Mapping[str, frozenset[str]] = {
    STRANGER: frozenset(),
    "nobody": frozenset(),
    "reader": frozenset(("pull",)),
    "pusher": frozenset(("push",)),
    "writer": frozenset(("pull", "push")),
    "remover": frozenset(("delete",)),
    "lister": frozenset(("catalog",)),
    "owner": frozenset(("pull", "push", "delete", "catalog")),
}
"""What each may do with team/**. All but the stranger have a password."""

MATRIX = [(kind, method) for kind, methods in HANDLERS.items() for method in methods]


def undeclared(app: Starlette) -> list[str]:
    """Routes beside the API that nobody has said a word about."""
    return [path for route in app.routes if (path := getattr(route, "path", "")) not in OPEN]


def configuration(directory: Path) -> Mapping[str, object]:
    lines = [htpasswd_line(name, f"{name}'s", 4) for name in ROLES if name]
    (directory / "users").write_text("\n".join(lines) + "\n")
    rules = [
        {"who": [f"user:{name}"], "repositories": ["team/**"], "actions": sorted(actions)}
        for name, actions in ROLES.items()
        if actions
    ]
    (directory / "policy.yml").write_text(yaml.safe_dump({"version": 1, "allow": rules}))
    return {
        "keys": str(directory / "keys"),
        "htpasswd": str(directory / "users"),
        "policy": str(directory / "policy.yml"),
    }


def test_every_route_is_declared(tmp_path: Path) -> None:
    settings = {
        "version": "0.1",
        "storage": {"inmemory": {}},
        "auth": {"builtin": configuration(tmp_path)},
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(settings))
    loaded = load(tmp_path / "config.yml", {}).settings
    app = Worker(loaded, make_driver(loaded), b"secret", Lifecycle(0)).app()
    assert isinstance(app, Observe)
    inner = app._app
    assert isinstance(inner, Application)
    assert undeclared(inner) == []
    assert {getattr(route, "path", "") for route in inner.routes} == set(OPEN)
    inner.router.routes.append(Route("/debug/pprof", lambda request: Response()))
    assert undeclared(inner) == ["/debug/pprof"]


def test_every_resource_and_method_has_a_rule() -> None:
    assert set(MATRIX) == {(kind, method) for kind, methods in RULES.items() for method in methods}
    assert PATHS.keys() == HANDLERS.keys() == set(Kind)


@dataclass
class World:
    registry: Registry
    tokens: dict[str, str]

    def ask(self, method: str, path: str, credentials: Mapping[str, str]) -> httpx.Response:
        return self.registry.ask(method, path, headers=credentials)

    def password(self, role: str) -> dict[str, str]:
        return basic(role) if role else {}

    def token(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"}


def basic(name: str) -> dict[str, str]:
    shown = base64.b64encode(f"{name}:{name}'s".encode()).decode()
    return {"Authorization": f"Basic {shown}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("matrix")
    auth = {"builtin": configuration(directory)}
    with holdfast(directory, config={"auth": auth}) as server:
        registry = Registry(server.url, server.root)
        world = World(registry, {})
        scope = [f"repository:{NAME}:pull,push,delete", "registry:catalog:*"]
        for role in ROLES:
            answer = registry.ask(
                "GET", "/auth/token", params={"scope": scope}, headers=world.password(role)
            )
            world.tokens[role] = answer.json()["token"]
        path = f"/v2/{NAME}/blobs/uploads/?digest={NOTHING}"
        answer = world.ask("POST", path, world.password("owner"))
        assert answer.status_code == 201  # the repository is there, and the other one is not
        yield world
        registry.close()
    assert "Traceback" not in server.output()


def may(role: str, kind: Kind, method: str) -> bool:
    if kind in {Kind.BASE, Kind.CATALOG}:
        return role != STRANGER  # the list shows what may be seen, to whoever has a name
    return set(RULES[kind][method]) <= ROLES[role]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("shown", ["password", "token"])
def test_only_what_a_rule_gives_is_given(world: World, role: str, shown: str) -> None:
    credentials = getattr(world, shown)(role)
    for kind, method in MATRIX:
        allowed = may(role, kind, method)
        if kind is Kind.BASE and shown == "token":
            allowed = True  # a token of nobody in particular, which is what clients then have
        with world.registry.nothing_stored(uploads=not allowed):
            answers = [
                world.ask(method, f"/v2/{PATHS[kind].format(name=name)}", credentials)
                for name in (NAME, "team/absent", "team/app/beneath")
            ]
        for answer, name in zip(answers, (NAME, "team/absent", "team/app/beneath"), strict=True):
            status = answer.status_code
            told = f"{role or 'a stranger'} {method} {kind.value} of {name}: {status}"
            if shown == "token" and name != NAME and kind not in {Kind.BASE, Kind.CATALOG}:
                assert status == 401, told  # the token is for one repository
                continue
            refused = {401} if role == STRANGER or shown == "token" else {403}
            assert (status in {401, 403}) is not allowed, told
            assert allowed or status in refused, told
        if not allowed and shown == "password":
            assert len({told_of(answer) for answer in answers}) == 1, f"{role} {method} {kind}"


VARYING = {"date", "x-request-id", "content-length"}


def told_of(answer: httpx.Response) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    """What an answer tells, with the name that was asked for taken out of it."""
    text = answer.text
    headers = {name: value for name, value in answer.headers.items() if name not in VARYING}
    for name in ("team/app/beneath", "team/absent", NAME):
        text = text.replace(name, "NAME")
        headers = {key: value.replace(name, "NAME") for key, value in headers.items()}
    return answer.status_code, text, tuple(sorted(headers.items()))


def test_other_methods_are_none(world: World) -> None:
    for kind, methods in HANDLERS.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods.keys():
            for credentials in ({}, world.password("nobody"), world.password("owner")):
                path = f"/v2/{PATHS[kind].format(name=NAME)}"
                answer = world.ask(method, path, credentials)
                assert answer.status_code == 405
                assert answer.headers["allow"] == ", ".join(sorted(methods))


def test_options_tell_everybody_the_same(world: World) -> None:
    """The methods of the resource's kind, whoever asks and whether or not it is there."""
    for kind, methods in HANDLERS.items():
        told = {
            told_of(world.ask("OPTIONS", f"/v2/{PATHS[kind].format(name=name)}", credentials))
            for name in (NAME, "team/absent")
            for credentials in ({}, world.password("nobody"), world.password("owner"))
        }
        ((status, text, headers),) = told
        assert (status, text, dict(headers)["allow"]) == (200, "", ", ".join(sorted(methods)))


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_tells_nobody_anything(world: World, path: str) -> None:
    for credentials in ({}, world.password("owner")):
        answer = world.ask("GET", path, credentials)
        assert answer.status_code == 200
        assert "team/" not in answer.text
        for name in ("nobody", "remover", "lister"):  # the others are words of ours as well
            assert f'"{name}"' not in answer.text
    for method in ("PUT", "PATCH", "DELETE"):
        assert world.ask(method, path, world.password("owner")).status_code == 405


@pytest.mark.parametrize("path", ["/metrics/", "/%6detrics", "/METRICS", "//metrics", "/healthz/"])
def test_each_open_path_has_one_spelling(world: World, path: str) -> None:
    """A balancer that keeps one to itself looks for that spelling; and no redirect trusts Host."""
    answer = world.registry.raw(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert "evil" not in answer.text
