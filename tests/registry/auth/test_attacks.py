"""Forged tokens and tokens that reach too far, asked of a running registry with `auth.token`.

The recipes are those of the verifier's own tests; here each must be 401 over HTTP, and nothing changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.auth import test_tokens, tokenmaker
from tests.auth.test_tokens import ACCEPTED, REFUSED
from tests.support.registry import digest_of, first_status, request_head
from tests.support.servers import Server, holdfast

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
BLOB = b"a secret layer"
UPLOADS = "/v2/a/b/blobs/uploads/"
HEADERS = 16384
"""Bytes; more are not read."""
GOOD = [row for row in ACCEPTED if row[0] != "15 exp 59 s ago"]
"""That one is too close to the edge for a clock that goes on."""


@dataclass
class World:
    server: Server
    http: httpx.Client
    jwks: tokenmaker.Server

    def ask(
        self, method: str, path: str, text: str | None, content: bytes | None = None, **more: str
    ) -> httpx.Response:
        headers = dict(more)
        if text is not None:
            headers["Authorization"] = f"Bearer {text}"
        return self.http.request(method, path, headers=headers, content=content)

    def put(self, text: str, reference: str = "1", name: str = "a/b") -> httpx.Response:
        path = f"/v2/{name}/manifests/{reference}"
        return self.ask("PUT", path, text, MANIFEST, **{"Content-Type": INDEX})


def granted(*actions: str, name: str = "a/b", kind: str = "repository") -> str:
    return tokenmaker.token(access=[{"type": kind, "name": name, "actions": [*actions]}])


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's clock is the real one."""
    for module in (tokenmaker, test_tokens):
        monkeypatch.setattr(module, "NOW", int(time.time()))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("attacks")
    keys = tokenmaker.jwks(
        k1=tokenmaker.RSA,
        e1=tokenmaker.P256,
        e3=tokenmaker.P384,
        e5=tokenmaker.P521,
        o1=tokenmaker.ED,
    )
    provider = tokenmaker.Server()
    provider.answer = (200, {}, keys)
    auth = {
        "token": {
            "realm": "https://auth.example.com/token",
            "service": tokenmaker.SERVICE,
            "issuer": tokenmaker.ISSUER,
            "jwks": f"{provider.url}/keys",
        }
    }
    with holdfast(directory, workers=1, config={"auth": auth}) as server:
        with httpx.Client(base_url=server.url, timeout=20) as http:
            yield World(server, http, provider)
        assert "Traceback" not in server.output()
    provider.close()


@pytest.fixture(autouse=True)
def _pushed(world: World, _now: None) -> None:
    for name in ("a/b", "secret/app"):
        text = granted("pull", "push", name=name)
        assert world.put(text, name=name).status_code == 201
        path = f"/v2/{name}/blobs/uploads/?digest={digest_of(BLOB)}"
        if name != "a/b":
            assert world.ask("POST", path, text, BLOB).status_code == 201


def refused(answer: httpx.Response, error: str | None) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="https://auth.example.com/token",service=')
    assert (f'error="{error}"' in challenge) if error else ("error=" not in challenge)


def test_a_forged_token_opens_nothing(world: World) -> None:
    asked = len(world.jwks.asked)
    for name, recipe in REFUSED:
        text = recipe()
        if len(text) > HEADERS:
            assert world.ask("GET", "/v2/a/b/tags/list", text).status_code == 431, name
            continue
        if not text.isascii() or not text.isprintable() or text != text.strip() or not text:
            continue  # no header has that, or it has it without the blanks
        answer = world.ask("GET", "/v2/a/b/tags/list", text)
        assert answer.status_code == 401, (name, answer.text)
        assert "tags" not in answer.json(), name
        assert world.put(text, "forged").status_code == 401, name
    assert len(world.jwks.asked) - asked <= 2, "keys are not asked for anew for each of them"
    tags = world.ask("GET", "/v2/a/b/tags/list", granted("pull")).json()["tags"]
    assert "forged" not in tags


@pytest.mark.parametrize(("name", "recipe"), GOOD, ids=[name for name, _ in GOOD])
def test_a_good_token_is_no_forgery(world: World, name: str, recipe: Callable[[], str]) -> None:
    answer = world.ask("GET", "/v2/", recipe())
    assert answer.status_code == 200, answer.text


def test_a_token_stands_in_one_header_only(world: World) -> None:
    text = granted("pull")
    refused(world.http.get("/v2/a/b/tags/list"), None)
    refused(world.http.get(f"/v2/a/b/tags/list?token={text}"), None)
    refused(world.http.get("/v2/a/b/tags/list", headers={"Cookie": f"token={text}"}), None)


WRITES = [
    ("POST", UPLOADS),
    ("POST", f"{UPLOADS}?digest={digest_of(BLOB)}"),
    ("PUT", "/v2/a/b/manifests/2"),
    ("PUT", f"/v2/a/b/manifests/{digest_of(MANIFEST)}?tag=2&tag=3"),
    ("DELETE", "/v2/a/b/manifests/1"),
    ("DELETE", f"/v2/a/b/manifests/{digest_of(MANIFEST)}"),
    ("DELETE", f"/v2/a/b/blobs/{digest_of(BLOB)}"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_who_may_pull_writes_nothing(world: World, method: str, path: str) -> None:
    refused(
        world.ask(method, path, granted("pull"), MANIFEST, **{"Content-Type": INDEX}),
        "insufficient_scope",
    )
    tags = world.ask("GET", "/v2/a/b/tags/list", granted("pull")).json()["tags"]
    assert tags == ["1"]


@pytest.mark.parametrize(("method", "path"), [row for row in WRITES if row[0] != "DELETE"])
@pytest.mark.parametrize("text", [None, "forged", "pull"])
def test_a_body_is_not_asked_for_before_the_token_is_good(
    world: World, method: str, path: str, text: str | None
) -> None:
    token = granted("pull") if text == "pull" else text
    shown: dict[str, str | int] = {"Authorization": f"Bearer {token}"} if token else {}
    head = request_head(method, path, Expect="100-continue", Content_Length=2**40, **shown)
    assert first_status(world.server.url, head) == 401


@pytest.mark.parametrize(("method", "path"), [row for row in WRITES if row[0] == "DELETE"])
def test_who_may_push_deletes_nothing(world: World, method: str, path: str) -> None:
    answer = world.ask(method, path, granted("pull", "push"))
    refused(answer, "insufficient_scope")
    assert ':delete"' in answer.headers["www-authenticate"]


def test_who_may_push_may_cancel_an_upload_of_theirs(world: World) -> None:
    text = granted("pull", "push")
    location = world.ask("POST", UPLOADS, text).headers["location"]
    assert world.ask("DELETE", location, text).status_code == 204


def test_an_upload_belongs_to_its_repository(world: World) -> None:
    location = world.ask("POST", UPLOADS, granted("pull", "push")).headers["location"]
    other = granted("pull", "push", name="x/y")
    moved = location.replace("/v2/a/b/", "/v2/x/y/")
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert world.ask(method, moved, other).status_code in {400, 404}
    assert world.ask("GET", location, granted("pull", "push")).status_code == 204


def test_the_catalog_is_a_scope_of_its_own(world: World) -> None:
    refused(world.ask("GET", "/v2/_catalog", granted("pull")), "insufficient_scope")
    text = granted("*", name="catalog", kind="registry")
    assert "a/b" in world.ask("GET", "/v2/_catalog", text).json()["repositories"]


def test_content_of_another_repository_stays_there(world: World) -> None:
    text, digest = granted("pull", "push"), digest_of(BLOB)
    for method in ("GET", "HEAD"):
        assert world.ask(method, f"/v2/a/b/blobs/{digest}", text).status_code == 404
    for query in (f"mount={digest}&from=secret/app", f"mount={digest}"):
        assert world.ask("POST", f"{UPLOADS}?{query}", text).status_code == 202
    subject = digest_of(MANIFEST)
    assert world.ask("GET", f"/v2/a/b/referrers/{subject}", text).json()["manifests"] == []
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX.replace("index", "manifest"),
        "config": {"mediaType": "application/json", "digest": digest, "size": len(BLOB)},
        "layers": [],
    }
    answer = world.ask(
        "PUT",
        "/v2/a/b/manifests/stolen",
        text,
        json.dumps(document).encode(),
        **{"Content-Type": str(document["mediaType"])},
    )
    assert answer.status_code in {400, 404}
    assert answer.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"


@pytest.mark.parametrize("path", ["/v2/nope", "/v2/A/tags/list", "/v2/a/../b/tags/list", "/v3/"])
def test_strangers_learn_no_names(world: World, path: str) -> None:
    assert world.http.get(path).status_code in {400, 401, 404}
    assert world.http.get("/v2/secret/app/tags/list").status_code == 401
    assert world.http.get("/v2/absent/app/tags/list").status_code == 401
