"""Users, robots and tokens against a running registry with `auth.builtin`, and its commands."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from auth.making import htpasswd_line
from auth.revocations import LONGEST
from registry.access import RULES
from registry.parsing import Kind
from tests.support.clients import wait_for
from tests.support.registry import digest_of
from tests.support.servers import Server, holdfast

POLICY = """\
version: 1
groups: {dev: [alice]}
allow:
  - name: developers push
    who: [group:dev, "robot:ci-*"]
    repositories: [team/**]
    actions: [pull, push]
  - name: erin reads
    who: [user:erin]
    repositories: [team/**]
    actions: [pull]
  - name: everybody reads public
    who: [everybody]
    repositories: [public/**]
    actions: [pull]
  - name: administrators
    who: [user:root]
    repositories: ["**"]
    actions: [pull, push, delete, catalog]
"""
USERS = {"alice": "wonder", "erin": "reader", "root": "toor", "mallory": "nothing"}
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
)


@dataclass
class World:
    server: Server
    directory: Path
    config: Path
    auth: dict[str, Any]

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.server.url, timeout=20)

    def command(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "registry.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def token(self, user: str = "", password: str = "", *scopes: str) -> str:
        query = urlencode([("service", "holdfast"), *(("scope", scope) for scope in scopes)])
        headers = basic(user, password) if user else {}
        answer = self.http.get(f"/auth/token?{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["token"] == answer.json()["access_token"]
        assert answer.json()["expires_in"] >= 60
        token: str = answer.json()["token"]
        return token

    def metric(self, name: str) -> float:
        """The sum over its labels."""
        lines = self.http.get("/metrics").text.splitlines()
        shown = [line for line in lines if re.match(rf"{re.escape(name)}[ {{]", line)]
        assert shown, name
        return sum(float(line.rpartition(" ")[2]) for line in shown)

    def as_user(self, user: str, *scopes: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user, USERS.get(user, ''), *scopes)}"}

    def push(self, name: str, reference: str, headers: dict[str, str]) -> httpx.Response:
        return self.http.put(
            f"/v2/{name}/manifests/{reference}",
            content=MANIFEST,
            headers={**headers, "Content-Type": INDEX},
        )


def basic(user: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("builtin")
    lines = [htpasswd_line(user, password, 4) for user, password in USERS.items()]
    (directory / "users").write_text("\n".join(lines) + "\n")
    (directory / "policy.yml").write_text(POLICY)
    auth = {
        "builtin": {
            "keys": str(directory / "keys"),
            "htpasswd": str(directory / "users"),
            "policy": str(directory / "policy.yml"),
        }
    }
    with holdfast(directory, config={"auth": auth}) as server:
        (config,) = directory.glob("config-*.yml")
        world = World(server, directory, config, auth)
        for name in ("team/app", "public/app", "secret/app"):
            scope = f"repository:{name}:pull,push"
            assert world.push(name, "1", world.as_user("root", scope)).status_code == 201
        yield world
        world.http.close()
        assert "Traceback" not in server.output()


def test_the_challenge_leads_to_the_token_server(world: World) -> None:
    answer = world.http.get("/v2/team/app/manifests/1")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="{world.server.url}/auth/token",service="holdfast",'
        'scope="repository:team/app:pull"'
    )
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert world.http.get("/v2/").status_code == 401
    assert world.http.get("/v2/", headers=world.as_user("mallory")).status_code == 200


@pytest.mark.parametrize(
    ("user", "name", "pull", "push", "delete"),
    [
        ("alice", "team/app", 200, 201, 403),
        ("erin", "team/app", 200, 403, 403),
        ("mallory", "team/app", 403, 403, 403),
        ("mallory", "public/app", 200, 403, 403),
        ("alice", "secret/app", 403, 403, 403),
        ("root", "secret/app", 200, 201, 202),
        ("", "public/app", 200, 401, 401),
        ("", "team/app", 401, 401, 401),
    ],
)
def test_who_may_do_what(
    world: World, user: str, name: str, pull: int, push: int, delete: int
) -> None:
    """By password; a token that lacks the action is 401 instead of 403, as the protocol has it."""
    reference = f"{user or 'nobody'}-{time.monotonic_ns()}"
    shown = basic(user, USERS[user]) if user else {}
    actions = {"GET": pull, "PUT": push, "DELETE": delete}
    for by_token in (False, True):
        headers = shown
        if by_token:
            scope = f"repository:{name}:pull,push,delete"
            headers = {"Authorization": f"Bearer {world.token(user, USERS.get(user, ''), scope)}"}
        for method, status in actions.items():
            tag = "1" if method == "GET" else reference
            if method == "PUT":
                answer = world.push(name, tag, headers)
            else:
                answer = world.http.request(method, f"/v2/{name}/manifests/{tag}", headers=headers)
            expected = 401 if by_token and status == 403 else status
            assert answer.status_code == expected, (method, by_token, answer.text)
            if answer.status_code in (401, 403):
                assert answer.json()["errors"][0]["message"]


def test_every_route_is_closed_to_strangers(world: World) -> None:
    digest = digest_of(MANIFEST)
    upload = "0c337451-7bba-44a7-907d-2be42e7fb013"
    paths = {
        Kind.BASE: "",
        Kind.CATALOG: "_catalog",
        Kind.TAGS: "team/app/tags/list",
        Kind.MANIFEST: "team/app/manifests/1",
        Kind.BLOB: f"team/app/blobs/{digest}",
        Kind.UPLOADS: "team/app/blobs/uploads/",
        Kind.UPLOAD: f"team/app/blobs/uploads/{upload}",
        Kind.REFERRERS: f"team/app/referrers/{digest}",
    }
    assert paths.keys() == RULES.keys()
    for kind, methods in RULES.items():
        for method in methods:
            answer = world.http.request(method, f"/v2/{paths[kind]}")
            assert answer.status_code == 401, (kind, method)
            assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(
    "token",
    ["x", "a.b.c", "." * 50, "é", "A" * 9000, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."],
)
def test_what_is_no_token(world: World, token: str) -> None:
    headers = {b"Authorization": f"Bearer {token}".encode()}
    answer = world.http.get("/v2/team/app/manifests/1", headers=headers)
    assert answer.status_code == 401


def test_a_token_reaches_no_further_than_it_says(world: World) -> None:
    headers = world.as_user("root", "repository:team/app:pull")
    assert world.http.get("/v2/team/app/manifests/1", headers=headers).status_code == 200
    for method, path in (("GET", "secret/app/manifests/1"), ("DELETE", "team/app/manifests/1")):
        answer = world.http.request(method, f"/v2/{path}", headers=headers)
        assert answer.status_code == 401
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    altered = headers["Authorization"][:-4] + "AAAA"
    answer = world.http.get("/v2/team/app/manifests/1", headers={"Authorization": altered})
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_the_catalog_shows_what_may_be_pulled(world: World) -> None:
    def listed(user: str) -> list[str]:
        found: list[str] = []
        path = "/v2/_catalog?n=1"
        while path:
            answer = world.http.get(path, headers=basic(user, USERS[user]))
            assert answer.status_code == 200
            page = answer.json()["repositories"]
            assert len(page) <= 1
            assert page or not answer.links
            found += page
            path = answer.links.get("next", {}).get("url", "")
        return found

    assert listed("root") == ["public/app", "secret/app", "team/app"]
    assert listed("alice") == ["public/app", "team/app"]
    assert listed("mallory") == ["public/app"]
    assert world.http.get("/v2/_catalog").status_code == 401


def test_a_mount_tells_nothing_of_what_may_not_be_read(world: World) -> None:
    root = basic("root", USERS["root"])
    content = b"a secret layer"
    digest = digest_of(content)
    path = f"/v2/secret/app/blobs/uploads/?digest={digest}"
    assert world.http.post(path, content=content, headers=root).status_code == 201
    alice = basic("alice", USERS["alice"])
    for source in ("secret/app", "secret/absent"):
        mount = f"/v2/team/app/blobs/uploads/?mount={digest}&from={source}"
        assert world.http.post(mount, headers=alice).status_code == 202
        mount = f"/v2/team/app/blobs/uploads/?mount={digest}"
        assert world.http.post(mount, headers=alice).status_code == 202
    assert world.http.head(f"/v2/team/app/blobs/{digest}", headers=alice).status_code == 404
    mount = f"/v2/team/app/blobs/uploads/?mount={digest}&from=secret/app"
    assert world.http.post(mount, headers=root).status_code == 201


def test_the_forms_of_oauth(world: World) -> None:
    def post(**fields: str) -> httpx.Response:
        return world.http.post("/auth/token", data={"service": "holdfast", **fields})

    scope = "repository:team/app:pull,push repository:secret/app:pull"
    login = {"grant_type": "password", "username": "alice", "password": USERS["alice"]}
    answer = post(**login, scope=scope, access_type="offline")
    assert answer.status_code == 200
    assert answer.json()["scope"] == "repository:team/app:pull,push"
    assert answer.headers["cache-control"] == "no-store"
    again = post(
        grant_type="refresh_token", refresh_token=answer.json()["refresh_token"], scope=scope
    )
    assert again.json()["scope"] == "repository:team/app:pull,push"
    headers = {"Authorization": f"Bearer {again.json()['access_token']}"}
    assert world.http.get("/v2/team/app/manifests/1", headers=headers).status_code == 200

    assert post(grant_type="magic").status_code == 400
    assert post(grant_type="refresh_token", refresh_token="hfr_x").status_code == 401
    twice = world.http.post(
        "/auth/token",
        content="grant_type=password&grant_type=password",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert twice.status_code == 400
    assert world.http.post("/auth/token", json={"grant_type": "password"}).status_code == 400
    assert post(grant_type="password", password="x" * 70_000).status_code == 400


@pytest.mark.parametrize("query", ["service=other", "scope=nonsense", "service=a&service=b"])
def test_questions_that_make_no_sense(world: World, query: str) -> None:
    answer = world.http.get(f"/auth/token?{query}", headers=basic("alice", USERS["alice"]))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"]


def test_the_keys_are_published(world: World) -> None:
    (key,) = world.http.get("/auth/jwks").json()["keys"]
    assert (key["kty"], key["use"]) == ("EC", "sig")
    assert "d" not in key


def test_robots_from_their_making_to_their_end(world: World) -> None:
    config = str(world.config)
    made = world.command(
        "token", "create", "ci-1", config, "--scope", "repository:team/**:pull", "--days", "3"
    ).strip()
    assert made.startswith("hf_")
    robot = basic("anything", made)
    assert world.http.get("/v2/team/app/manifests/1", headers=robot).status_code == 200
    assert (
        world.push("team/app", "2", robot).status_code == 403
    )  # the policy would, the scope does not
    other = world.command("token", "create", "nobody", config).strip()
    headers = basic("x", other)
    assert world.http.get("/v2/team/app/manifests/1", headers=headers).status_code == 403
    listed = world.command("token", "list", config)
    (line,) = [line for line in listed.splitlines() if " ci-1 " in line]
    assert "repository:team/**:pull" in line
    identifier = line.split()[0]
    with holdfast(world.directory, config={"auth": world.auth}) as second:
        urls = [f"{node.url}/v2/team/app/manifests/1" for node in (world.server, second)]
        scope = "repository:team/app:pull"
        exchanged = {"Authorization": f"Bearer {world.token('x', made, scope)}"}
        shown = [(url, headers) for url in urls for headers in (robot, exchanged)]

        def statuses() -> set[int]:
            # Each on a connection of its own, which comes to any worker of that node.
            return {
                httpx.get(url, headers={**headers, "Connection": "close"}).status_code
                for url, headers in shown * 3
            }

        assert statuses() == {200}
        world.command("token", "revoke", identifier, config, "--note", "leaked")
        assert "revoked" in world.command("token", "list", config)
        deadline = time.monotonic() + LONGEST + 5
        while statuses() != {401}:
            assert time.monotonic() < deadline, "the revocation is not known"
            time.sleep(0.5)
    world.command("token", "revoke", "0123456789abcdef", config, code=1)


def test_explanations(world: World) -> None:
    config = str(world.config)
    said = world.command("auth", "explain", "alice", "team/app", "push", config)
    assert said.startswith("yes: allow rule 1 'developers push'")
    said = world.command("auth", "explain", "erin", "team/app", "push", config, code=1)
    assert said.startswith("no: no rule allows it")
    said = world.command("auth", "explain", "anonymous", "public/x", "pull", config)
    assert "everybody reads public" in said


def test_a_changed_policy_counts_and_a_broken_one_does_not(world: World) -> None:
    policy = world.directory / "policy.yml"
    erin = basic("erin", USERS["erin"])

    def until(path: str, status: int, headers: dict[str, str]) -> None:
        deadline = time.monotonic() + 15
        while world.http.get(path, headers=headers).status_code != status:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    try:
        policy.write_text(POLICY.replace("who: [user:erin]", "who: [user:somebody-else]"))
        until("/v2/team/app/manifests/1", 403, erin)
        policy.write_text("version: 1\nallow: [nonsense\n")
        deadline = time.monotonic() + 15
        # Nobody asks for anything meanwhile but the probes.
        while "authentication" not in world.http.get("/readyz").json():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert world.http.get("/readyz").status_code == 200
        assert "policy" not in world.http.get("/readyz").text
        # The worker that is scraped may not be the one that has just told it.
        wait_for(
            lambda: world.metric("holdfast_access_problems") == 1, "the metric shows it", 20, 0.2
        )
        assert f"policy {policy}: line 3: " in world.server.output()
        assert world.http.get("/v2/team/app/manifests/1", headers=erin).status_code == 403
    finally:
        policy.write_text(POLICY)
    until("/v2/team/app/manifests/1", 200, erin)
    wait_for(
        lambda: world.metric("holdfast_access_problems") == 0, "the metric shows its end", 20, 0.2
    )
    assert "authentication" not in world.http.get("/readyz").json()


def test_a_new_key_ends_no_token(world: World) -> None:
    headers = world.as_user("alice", "repository:team/app:pull")
    said = world.command("keys", "rotate", str(world.config))
    assert said.startswith("The new key is ")
    for _ in range(20):
        assert world.http.get("/v2/team/app/manifests/1", headers=headers).status_code == 200
        fresh = world.as_user("alice", "repository:team/app:pull")
        assert world.http.get("/v2/team/app/manifests/1", headers=fresh).status_code == 200


def test_keys_that_others_can_read_are_told_of(world: World, tmp_path: Path) -> None:
    """In the log, by readiness and by a metric, though nobody asks for anything that needs a key."""
    keys = shutil.copytree(world.directory / "keys", tmp_path / "keys")
    (keys / "sealing-key").chmod(0o644)
    auth = {"builtin": {**world.auth["builtin"], "keys": str(keys)}}
    with holdfast(tmp_path, workers=1, config={"auth": auth}) as server:
        deadline = time.monotonic() + 15
        while "authentication" not in httpx.get(f"{server.url}/readyz").json():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        metrics = httpx.get(f"{server.url}/metrics", timeout=20).text
        assert "holdfast_access_problems 1.0" in metrics
        assert "sealing-key can be read by others (mode 0644); use 0600." in server.output()


def test_the_audit_is_counted(world: World) -> None:
    def counts() -> dict[str, float]:
        events = ("push", "denied", "token_issued", "login_failed")
        return {
            each: sum(
                float(line.rpartition(" ")[2])
                for line in world.http.get("/metrics").text.splitlines()
                if line.startswith(f'holdfast_audit_events_total{{event="{each}"}}')
            )
            for each in events
        }

    before = counts()
    tag = f"counted-{time.monotonic_ns()}"
    assert world.push("team/app", tag, basic("alice", USERS["alice"])).status_code == 201
    assert world.push("team/app", tag, basic("erin", USERS["erin"])).status_code == 403
    world.token("alice", USERS["alice"], "repository:team/app:pull")
    answer = world.http.get("/auth/token", headers=basic("counted", "wrong"))
    assert answer.status_code == 401
    deadline = time.monotonic() + 10
    while any(now <= before[each] for each, now in counts().items()):
        assert time.monotonic() < deadline, (before, counts())
        time.sleep(0.2)


def test_the_token_server_is_below_the_path_of_the_registry(world: World, tmp_path: Path) -> None:
    """http.host with a path: a proxy takes that away, and puts http.prefix there."""
    http = {"host": "https://hub.example.com/images/", "prefix": "/inner/"}
    with (
        holdfast(tmp_path, workers=1, config={"auth": world.auth, "http": http}) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        challenge = client.get("/inner/v2/").headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="https://hub.example.com/images/auth/token",')
        headers = basic("root", USERS["root"])
        assert client.get("/inner/auth/token", headers=headers).json()["token"]
        begun = client.post("/inner/v2/a/blobs/uploads/", headers=headers)
        assert begun.headers["location"].startswith("https://hub.example.com/images/v2/a/")


def test_the_audit_names_who_what_and_by_which_rule(world: World) -> None:
    tag = f"audited-{time.monotonic_ns()}"
    assert world.push("team/app", tag, basic("alice", USERS["alice"])).status_code == 201
    assert world.push("team/app", tag, basic("erin", USERS["erin"])).status_code == 403
    world.token("alice", USERS["alice"], "repository:team/app:pull")
    deadline = time.monotonic() + 10
    wanted = ('"push"', '"denied"', '"token_issued"')
    while True:
        lines = [line for line in world.server.output().splitlines() if "holdfast.audit" in line]
        if all(any(word in line for line in lines) for word in wanted):
            break
        assert time.monotonic() < deadline, lines[-5:]
        time.sleep(0.2)
    (pushed,) = [line for line in lines if '"push"' in line and digest_of(MANIFEST) in line][-1:]
    assert "alice" in pushed
    assert "developers push" in pushed
    assert not any(password in world.server.output() for password in ("wonder", "toor"))


def test_wrong_passwords_are_slowed_down(world: World) -> None:
    statuses = [
        world.http.get("/auth/token", headers=basic("victim", f"guess-{n}")) for n in range(40)
    ]
    assert {answer.status_code for answer in statuses} == {401, 429}
    refused = next(answer for answer in statuses if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
