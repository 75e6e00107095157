"""Somebody with a repository of their own tries, by every way there is, to get at another one's.

Mallory may do everything in team/** and nothing elsewhere. What is in secret/app must not come out, by
whatever name it is asked for, and nothing in it may change.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest

from auth.making import htpasswd_line
from storage.model import mediatype
from tests.support.registry import (
    Blob,
    Document,
    RawResponse,
    Registry,
    digest_of,
    image,
    index,
    request_head,
)
from tests.support.servers import holdfast

POLICY = """\
version: 1
allow:
  - {who: [user:root], repositories: ["**"], actions: all}
  - {who: [user:mallory], repositories: [team/**], actions: all}
"""
SECRET = Blob(b"what nobody else may read: " + b"7" * 1000)
CONFIG = Blob(b'{"secret": "configuration"}', "application/vnd.oci.image.config.v1+json")
MANIFEST = image(SECRET.data, config=CONFIG)
REFERRER = index(subject=MANIFEST.descriptor(), annotations={"only": "for the owner"})
OWN = image(b"a layer of mallory's own")
SECRETS = (SECRET.data, CONFIG.data, MANIFEST.content, REFERRER.content)
NOT_GIVEN = {400, 401, 403, 404, 405}


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{name}'s".encode()).decode()


@dataclass
class World:
    registry: Registry
    root: Registry

    def raw(self, method: str, target: str, authorization: str = "", **headers: str) -> RawResponse:
        length = {} if method in {"GET", "HEAD", "DELETE"} else {"Content_Length": 0}
        head = request_head(
            method, target, Authorization=authorization or basic("mallory"), **length, **headers
        )
        return self.registry.raw(head)

    def token(self, *scopes: str, **more: str) -> str:
        query = urlencode([("service", "holdfast"), *(("scope", s) for s in scopes), *more.items()])
        answer = self.registry.get(f"/auth/token?{query}")
        assert answer.status_code in {200, 400}, answer.text
        return str(answer.json().get("token", ""))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("trespass")
    lines = [htpasswd_line(name, f"{name}'s", 4) for name in ("root", "mallory")]
    (directory / "users").write_text("\n".join(lines) + "\n")
    (directory / "policy.yml").write_text(POLICY)
    builtin = {
        "keys": str(directory / "keys"),
        "htpasswd": str(directory / "users"),
        "policy": str(directory / "policy.yml"),
    }
    with holdfast(directory, config={"auth": {"builtin": builtin}}) as server:
        root, mallory = (Registry(server.url, server.root) for _ in range(2))
        root.http.headers["Authorization"] = basic("root")
        mallory.http.headers["Authorization"] = basic("mallory")
        root.push("secret/app", "1", MANIFEST)
        root.push("secret/app", "hidden-tag", REFERRER)
        mallory.push("team/app", "1", OWN)
        yield World(mallory, root)
        for registry in (root, mallory):
            registry.close()
        assert "Traceback" not in server.output()


@pytest.fixture(autouse=True)
def _secret_is_as_it_was(world: World) -> Iterator[None]:
    def of_secret() -> dict[str, tuple[int, int]]:
        found = world.root.files()
        named = {name for name in found if "/secret/" in name and "/_holdfast/" not in name}
        return {name: found[name] for name in named}

    before = of_secret()
    assert before
    yield
    assert of_secret() == before


def withheld(answer: RawResponse | Any, what: object) -> None:
    assert answer.status_code in NOT_GIVEN, (what, answer.status_code, answer.content[:200])
    for secret in SECRETS:
        assert secret not in answer.content, what
    for name in ("docker-content-digest", "etag", "location", "link"):
        assert name not in {header.lower() for header in answer.headers}, what


PLACES = [
    "manifests/1",
    f"manifests/{MANIFEST.digest}",
    f"blobs/{SECRET.digest}",
    "tags/list",
    f"referrers/{MANIFEST.digest}",
]
SPELLINGS = [
    "/v2/secret/app/{place}",
    "/v2/secret/app/{place}/",
    "/v2/secret/app/{place}%20",
    "/v2/secret/app/{place}%00",
    "/v2/secret/app/{place};x=y",
    "/v2/secret/app/{place}?name=team/app&scope=repository:team/app:pull",
    "/v2//secret/app/{place}",
    "//v2/secret/app/{place}",
    "/v2/./secret/app/{place}",
    "/v2/team/../secret/app/{place}",
    "/v2/team/app/../../secret/app/{place}",
    "/v2/team/%2e%2e/secret/app/{place}",
    "/v2/team/%252e%252e/secret/app/{place}",
    "/v2/team/..%2fsecret/app/{place}",
    "/v2/team%2f..%2fsecret%2fapp/{place}",
    "/v2/team/app/manifests/..%2f..%2f..%2fsecret%2fapp%2f{place}",
    "/v2/team/app/blobs/../../../secret/app/{place}",
    "/v2/team/app/..;/..;/secret/app/{place}",
    "/v2/team/app\\..\\..\\secret\\app/{place}",
    "/v2/%73ecret/app/{place}",
    "/v2/secret%2fapp/{place}",
    "/v2/secret%2Fapp/{place}",
    "/v2/Secret/app/{place}",
    "/v2/SECRET/APP/{place}",
    "/V2/secret/app/{place}",
    "/%76%32/secret/app/{place}",
    "/v2%2fsecret/app/{place}",
    "/v2/%ef%bd%93ecret/app/{place}",
    "/v2/%c5%bfecret/app/{place}",
    "/v2/secret/app%c2%a0/{place}",
    "/v2/s%cc%81ecret/app/{place}",
    "http://registry/v2/secret/app/{place}",
    "/auth/../v2/secret/app/{place}",
    "/healthz/../v2/secret/app/{place}",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_by_no_spelling_of_its_name(world: World, spelling: str) -> None:
    token = f"Bearer {world.token('repository:team/app:pull,push,delete', 'registry:catalog:*')}"
    for place in PLACES:
        target = spelling.format(place=place)
        for authorization in (basic("mallory"), token):
            got = world.raw("GET", target, authorization)
            withheld(got, target)
            headed = world.raw("HEAD", target, authorization)
            assert headed.status_code == got.status_code, target
            assert headed.headers.get("Content-Length") == got.headers.get("Content-Length"), target
        withheld(world.raw("DELETE", target), target)


@pytest.mark.parametrize(
    "target",
    [
        f"/v2/team/app/blobs/{SECRET.digest}",
        f"/v2/team/app/blobs/{CONFIG.digest}",
        f"/v2/team/app/blobs/{MANIFEST.digest}",
        f"/v2/team/app/manifests/{MANIFEST.digest}",
        f"/v2/team/app/manifests/{SECRET.digest}",
        f"/v2/team/app/manifests/{MANIFEST.digest.replace(':', '%3A')}",
        f"/v2/team/app/manifests/{MANIFEST.digest.replace(':', '-')}",
        f"/v2/team/app/manifests/{REFERRER.digest}",
        f"/v2/team/app/manifests/{digest_of(MANIFEST.content, 'sha512')}",
        f"/v2/team/app/blobs/{digest_of(SECRET.data, 'sha512')}",
        "/v2/team/app/manifests/hidden-tag",
    ],
)
def test_by_no_digest_in_another_repository(world: World, target: str) -> None:
    world.root.get(f"/v2/secret/app/manifests/{MANIFEST.digest}")  # so that it is remembered
    world.root.get(f"/v2/secret/app/blobs/{SECRET.digest}")
    for headers in ({}, {"If_None_Match": '"x"'}, {"Range": "bytes=0-3"}, {"Accept": "*/*"}):
        for method in ("GET", "HEAD", "DELETE"):
            withheld(world.raw(method, target, **headers), target)


def test_lists_name_nothing_of_it(world: World) -> None:
    for query in (
        "",
        "?n=1",
        "?last=secret",
        "?last=secret/app&n=1",
        "?last=secret%2Fap",
        "?n=100",
    ):
        answer = world.registry.get(f"/v2/_catalog{query}")
        assert answer.status_code == 200
        assert "secret" not in answer.text + answer.headers.get("link", "").partition("?")[0]
        assert all(name.startswith("team/") for name in answer.json()["repositories"])
    listed = world.registry.get(f"/v2/team/app/referrers/{MANIFEST.digest}")
    assert listed.json()["manifests"] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Original_URL": "/v2/secret/app/manifests/1"},
        {"X_Rewrite_URL": "/v2/secret/app/manifests/1"},
        {"X_Forwarded_Prefix": "/v2/secret"},
        {"X_Forwarded_User": "root", "Remote_User": "root", "X_Remote_User": "root"},
        {"X_SSL_Client_CN": "root", "SSL_Client_S_DN": "CN=root", "X_Client_Cert": "root"},
        {"Cookie": "session=root; token=root"},
        {"X_HTTP_Method_Override": "GET"},
    ],
)
def test_by_no_header(world: World, headers: dict[str, str]) -> None:
    own = world.raw("GET", "/v2/team/app/manifests/1", **headers)
    assert own.content == OWN.content
    withheld(world.raw("GET", "/v2/secret/app/manifests/1", **headers), headers)
    override = world.raw("GET", "/v2/team/app/manifests/1", X_HTTP_Method_Override="DELETE")
    assert override.status_code == 200


def test_by_no_second_authorization(world: World) -> None:
    """Whoever stands between may have looked at the other one."""
    for shown in (
        [basic("mallory"), basic("root")],
        [basic("root"), basic("mallory")],
        [f"Bearer {world.token('repository:team/app:pull')}", basic("root")],
    ):
        lines = "".join(f"Authorization: {text}\r\n" for text in shown)
        head = f"GET /v2/secret/app/manifests/1 HTTP/1.1\r\nHost: registry\r\n{lines}\r\n"
        withheld(world.registry.raw(head.encode()), shown)


SCOPES = [
    ["repository:secret/app:pull"],
    ["repository:team/app:pull repository:secret/app:pull,push,delete"],
    ["repository:team/app:pull", "repository:secret/app:pull"],
    ["repository:team/app,secret/app:pull"],
    ["repository:team/app:pull:secret/app:pull"],
    ["repository:team/app:pull,repository:secret/app:pull"],
    ["repository:secret/app:*"],
    ["repository:**:pull"],
    ["repository:*:*"],
    ["repository:secret/*:pull"],
    ["repository:team/../secret/app:pull"],
    ["repository:team/app/../../secret/app:pull"],
    ["repository:/secret/app:pull"],
    ["repository:secret/app/:pull"],
    ["repository:Secret/App:pull"],
    ["repository:secret%2Fapp:pull"],
    ["repository:127.0.0.1:5000/secret/app:pull"],
    ["repository(plugin):secret/app:pull"],
    ["repository(image):secret/app:pull,push"],
    ["registry:catalog:*"],
    ["registry:catalog:*,pull"],
    ["registry:secret/app:pull"],
    ["registry:**:*"],
    ["repository:catalog:*"],
    ["repository:secret/app:pull\u00a0"],
    ["repository:\u017fecret/app:pull"],
    ["repository:\uff53ecret/app:pull"],
    ["repository:secret/app\u0000:pull"],
    ["repository:secret/app:PULL"],
    ["repository:team/{user}:pull"],
    ["repository:team/app:pull\nrepository:secret/app:pull"],
]


@pytest.mark.parametrize("scopes", SCOPES, ids=lambda scopes: " & ".join(scopes)[:60])
def test_by_no_wording_of_a_scope(world: World, scopes: list[str]) -> None:
    for more in ({}, {"account": "root"}, {"client_id": "root", "offline_token": "true"}):
        token = world.token(*scopes, **more)
        if not token:
            continue  # the question made no sense
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["sub"] == "mallory"
        for granted in claims["access"]:
            assert granted["name"].startswith("team/") or granted["type"] == "registry"
        for place in PLACES:
            withheld(world.raw("GET", f"/v2/secret/app/{place}", f"Bearer {token}"), scopes)
        path = f"/v2/team/mounted/blobs/uploads/?mount={SECRET.digest}&from=secret/app"
        assert world.raw("POST", path, f"Bearer {token}").status_code in {202, 401}
        withheld(world.raw("GET", f"/v2/team/mounted/blobs/{SECRET.digest}"), scopes)


MOUNTS = [
    "from=secret/app",
    "from=Secret/app",
    "from=secret/app/",
    "from=/secret/app",
    "from=./secret/app",
    "from=team/../secret/app",
    "from=secret%2Fapp",
    "from=secret%252Fapp",
    "from=team/app&from=secret/app",
    "from=secret/app&from=team/app",
    "from=",
    "from=team/app",
    "",
    f"from=team/app&digest={quote(SECRET.digest)}",
    f"mount={quote(SECRET.digest)}&from=secret/app",
]


@pytest.mark.parametrize("query", MOUNTS)
def test_by_no_mount(world: World, query: str) -> None:
    """An upload begins each time, as it does for content that is nowhere."""
    answers = []
    for digest in (SECRET.digest, digest_of(b"nowhere"), MANIFEST.digest):
        path = f"/v2/team/mounted/blobs/uploads/?mount={digest}&{query}"
        answers.append(world.raw("POST", path.replace(quote(SECRET.digest), digest)))
        withheld(world.raw("GET", f"/v2/team/mounted/blobs/{digest}"), query)
    assert {answer.status_code for answer in answers} == {202}
    assert len({frozenset(answer.headers) for answer in answers}) == 1


@pytest.mark.parametrize("digest", [SECRET.digest, MANIFEST.digest])
def test_by_no_upload_without_its_content(world: World, digest: str) -> None:
    """That somebody else has the content is no proof of having it."""
    begun = world.registry.start("team/claimed")
    assert world.registry.finish(begun, digest).status_code == 400
    begun = world.registry.start("team/claimed")
    assert world.registry.ask("DELETE", begun).status_code == 204
    assert world.registry.finish(begun, digest).status_code in {400, 404}
    whole = f"/v2/team/claimed/blobs/uploads/?digest={digest}"
    assert world.registry.ask("POST", whole, content=b"something else").status_code == 400
    assert world.registry.ask("POST", whole).status_code == 202
    withheld(world.raw("GET", f"/v2/team/claimed/blobs/{digest}"), digest)


def referring(**fields: Any) -> Document:
    document = json.loads(OWN.content) | fields
    return Document(json.dumps(document).encode(), mediatype.OCI_MANIFEST)


FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
MANIFESTS = {
    "layer": referring(layers=[SECRET.descriptor()]),
    "config": referring(config=CONFIG.descriptor()),
    "the manifest as a layer": referring(
        layers=[Blob(MANIFEST.content, MANIFEST.media_type).descriptor()]
    ),
    "child": index(MANIFEST),
    "child of another type": index(Document(SECRET.data, mediatype.OCI_MANIFEST)),
}


@pytest.mark.parametrize("document", MANIFESTS.values(), ids=MANIFESTS)
def test_by_no_manifest_that_refers_to_it(world: World, document: Document) -> None:
    for reference in ("stolen", document.digest):
        put = world.registry.put_manifest("team/app", reference, document)
        assert put.status_code == 400
        assert put.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    withheld(world.raw("GET", f"/v2/team/app/blobs/{SECRET.digest}"), "a blob")
    withheld(world.raw("GET", f"/v2/team/app/manifests/{MANIFEST.digest}"), "a manifest")


def test_by_no_layer_that_need_not_be_there(world: World) -> None:
    """Such a manifest is accepted; what it names is still not in the repository."""
    layer = Blob(SECRET.data, FOREIGN).descriptor(urls=["https://example.com/layer"])
    world.registry.put_manifest("team/app", "foreign", referring(layers=[layer]))
    withheld(world.raw("GET", f"/v2/team/app/blobs/{SECRET.digest}"), "a foreign layer")


def test_a_referrer_stays_in_its_own_repository(world: World) -> None:
    mine = index(subject=MANIFEST.descriptor(), annotations={"by": "mallory"})
    assert world.registry.put_manifest("team/app", mine.digest, mine).status_code == 201
    listed = world.root.get(f"/v2/secret/app/referrers/{MANIFEST.digest}").json()["manifests"]
    assert [each["digest"] for each in listed] == [REFERRER.digest]
    listed = world.registry.get(f"/v2/team/app/referrers/{MANIFEST.digest}").json()["manifests"]
    assert [each["digest"] for each in listed] == [mine.digest]


def test_a_refusal_tells_nothing_of_what_is_there(world: World) -> None:
    """What is absent is refused in the same words, byte for byte."""
    for place in (*PLACES, f"blobs/{digest_of(b'nowhere')}", "manifests/nowhere"):
        told = []
        for name in ("secret/app", "secret/non"):
            answer = world.raw("GET", f"/v2/{name}/{place}")
            headers = {
                key.lower(): value
                for key, value in answer.headers.items()
                if key.lower() not in {"date", "x-request-id"}
            }
            told.append((answer.status_code, answer.text.replace(name, "NAME"), headers))
        assert told[0] == told[1]
