"""What is wrong is refused: the right status, code and a sentence, at once, and nothing is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import httpx
import pytest

from storage.model import mediatype
from storage.model.manifest import SIZE_LIMIT
from tests.support.promptness import promptly
from tests.support.registry import (
    CONFIG,
    Blob,
    Document,
    RawResponse,
    Registry,
    a_name,
    connect,
    digest_of,
    first_status,
    image,
    index,
    receive,
    refused,
    request_head,
    some_bytes,
    with_query,
)

HEX = "0123456789abcdef" * 4
ABSENT = f"sha256:{HEX}"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


@pytest.fixture(scope="module")
def homes() -> dict[str, str]:
    return {}


@pytest.fixture
def home(registry: Registry, homes: dict[str, str]) -> str:
    """A repository with one image, tagged `latest`."""
    if registry.url not in homes:
        homes[registry.url] = a_name("home")
        registry.push_image(homes[registry.url], "latest", b"layer")
    return homes[registry.url]


# Targets, byte for byte. {home} is a repository that exists.


@dataclass(frozen=True)
class Target:
    target: str
    status: int
    code: str
    methods: tuple[str, ...] = ("GET",)


NAMES = [
    "a/../b", "a/./b", "../a", "..", ".", "/a", "a//b", "a%2fb", "a%2Fb", "a%2f..%2f..%2fetc", "%2e%2e",
    "%252e%252e", "..%3b", "..;", "a%5cb", "a\\b", "a%00", "a%0a", "a%0d%0aX-Y:z", "%c0%ae%c0%ae",
    "%ef%bc%8f", "_uploads", "a/_layers", "_catalog", ".a", "-a", "a-", "a..b", "a___b", "A", "a/B", "%41",
    "%61", "a" * 256, "/".join("a" * 129), "a" * 2000, "a;b", "a:b", "a+b", "a%20b", "~a",
]  # fmt: skip
TAGS = [
    ".a",
    "-a",
    "a" * 129,
    "a%20b",
    "a%2fb",
    "a+b",
    "..",
    "%2e%2e",
    "a%00",
    "a%0a",
    "a@b",
    "x" * 900,
]
DIGESTS = [
    "sha256:", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"md5:{HEX[:32]}",
    f"sha512:{HEX}", f"sha384:{HEX}{HEX[:32]}", f"sha256+b64:{HEX}", "sha256:..", "sha256:%2e%2e",
    "sha256:..%2f..%2fsecret", f"sha256:{HEX[:-1]}%00", f"SHA256:{HEX}", f":{HEX}", f"sha256%3A{HEX}0",
    "sha256:baddigeststring",
]  # fmt: skip
UPLOADS = [
    "x", "..", "%2e%2e", "..%2f..%2fx", "0" * 36, "0" * 900, "%00", "0c337451-7bba-44a7-907d-2be42e7fb01G",
    "0C337451-7BBA-44A7-907D-2BE42E7FB013", "0c337451-7bba-44a7-907d-2be42e7fb013",
]  # fmt: skip
LISTS = [
    "-1",
    "%2B5",
    "+5",
    "1_0",
    "%D9%A3",
    "%207",
    "7%0A",
    "1e3",
    "0x10",
    "9" * 20,
    "x",
    "",
    "1.0",
    "NaN",
]
LASTS = ["%00", "%2F", "..", "UPPER%2Fx", "%0d%0aX:y", "a" * 10_000]

TARGETS: dict[str, Target] = {}
for name in NAMES:
    for rest, methods in {
        "tags/list": ("GET",),
        "manifests/x": ("GET", "PUT", "DELETE"),
        "blobs/uploads/": ("POST",),
        f"blobs/{ABSENT}": ("GET", "DELETE"),
    }.items():
        TARGETS[f"name {name[:30]} {rest[:14]}"] = Target(
            f"/v2/{name}/{rest}", 400, "NAME_INVALID", methods
        )
for tag in TAGS:
    TARGETS[f"tag {tag[:20]}"] = Target(
        f"/v2/{{home}}/manifests/{tag}", 400, "TAG_INVALID", ("GET", "PUT", "DELETE")
    )
for digest in DIGESTS:
    for resource, methods in {
        "manifests": ("GET", "PUT", "DELETE"),
        "blobs": ("GET", "DELETE"),
        "referrers": ("GET",),
    }.items():
        TARGETS[f"digest {digest[:30]} {resource}"] = Target(
            f"/v2/{{home}}/{resource}/{digest}", 400, "DIGEST_INVALID", methods
        )
for upload in UPLOADS:
    TARGETS[f"upload {upload[:20]}"] = Target(
        f"/v2/{{home}}/blobs/uploads/{upload}", 404, "BLOB_UPLOAD_UNKNOWN", ("GET",)
    )
for number in LISTS:
    for resource in ("_catalog", "{home}/tags/list", f"{{home}}/referrers/{ABSENT}"):
        TARGETS[f"n={number} {resource[:12]}"] = Target(
            f"/v2/{resource}?n={number}", 400, "PAGINATION_NUMBER_INVALID"
        )
for last in LASTS:
    for resource in ("_catalog", "{home}/tags/list", f"{{home}}/referrers/{ABSENT}"):
        TARGETS[f"last={last[:20]} {resource[:12]}"] = Target(
            f"/v2/{resource}?last={last}", 400, "PAGINATION_NUMBER_INVALID"
        )
for query in ("n=%ff", "%c0%ae"):
    TARGETS[f"query {query[:20]}"] = Target(f"/v2/_catalog?{query}", 400, "UNSUPPORTED")
TARGETS["query of 201 fields"] = Target(
    f"/v2/_catalog?{'&'.join(['a=1'] * 201)}", 414, "UNSUPPORTED"
)
for algorithm in ("md5", "sha1", "SHA256", "sha256%00"):
    TARGETS[f"digest-algorithm {algorithm}"] = Target(
        f"/v2/{{home}}/blobs/uploads/?digest-algorithm={algorithm}",
        400,
        "DIGEST_INVALID",
        ("POST",),
    )
TARGETS["single POST md5"] = Target(
    f"/v2/{{home}}/blobs/uploads/?digest=md5:{HEX[:32]}", 400, "DIGEST_INVALID", ("POST",)
)


def ask(registry: Registry, method: str, target: str, **headers: str | int) -> RawResponse:
    length = {} if method in {"GET", "HEAD", "DELETE"} else {"Content_Length": 0}
    return registry.raw(request_head(method, target, **length, **headers))


@pytest.mark.parametrize("row", TARGETS)
def test_targets(registry: Registry, home: str, row: str) -> None:
    case = TARGETS[row]
    with registry.nothing_stored():
        for method in case.methods:
            target = case.target.format(home=home)
            response = promptly(partial(ask, registry, method, target), perf_counter)
            if registry.balancer == "nginx" and "%00" in case.target:
                assert response.status_code == 400  # by itself, without asking a node
                continue
            if len(case.target) > 8192:
                refused(response, 414, "UNKNOWN")
                continue
            refused(response, case.status, case.code)
            assert "location" not in {key.lower() for key in response.headers}
            assert int(response.headers["Content-Length"]) < 2000


@pytest.mark.parametrize(
    "target", ["/v2/\xe9/tags/list", "/v2/a/manifests/\xff", "/v2/\xf0\x9f\x90\xb3/tags/list"]
)
def test_bytes_outside_ascii(registry: Registry, target: str) -> None:
    response = ask(registry, "GET", target)
    assert response.status_code == 400
    if registry.balancer != "haproxy":  # which says so by itself, without asking a node
        assert response.json()["errors"][0]["message"].endswith(".")


@pytest.mark.parametrize("number", ["10000000000", "9223372036854775807", "0", "1000", "0001"])
@pytest.mark.parametrize("resource", ["_catalog", "{home}/tags/list", "{home}/referrers/" + ABSENT])
def test_numbers_that_are_merely_large(
    registry: Registry, home: str, number: str, resource: str
) -> None:
    response = ask(registry, "GET", f"/v2/{resource.format(home=home)}?n={number}")
    assert response.status_code == 200


# Manifests. Each is sent with its blobs in place, so that nothing but the row's fault can refuse it.


@dataclass(frozen=True)
class Manifest:
    content: bytes
    says: str
    code: str = "MANIFEST_INVALID"
    content_type: str | None = mediatype.OCI_MANIFEST
    status: int = 400
    reference: str = "bad"


LAYER = Blob(b"layer")
CONFIG_BLOB = Blob(b"{}", CONFIG)
IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": mediatype.OCI_MANIFEST,
    "config": CONFIG_BLOB.descriptor(),
    "layers": [LAYER.descriptor()],
}
TEXT = json.dumps(IMAGE)
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": []}


def changed(**changes: Any) -> bytes:
    return json.dumps({**IMAGE, **changes}).encode()


def with_layer(**changes: Any) -> bytes:
    return changed(layers=[LAYER.descriptor(**changes)])


def with_text(old: str, new: str) -> bytes:
    assert old in TEXT
    return TEXT.replace(old, new, 1).encode()


MANIFESTS: dict[str, Manifest] = {
    "nothing": Manifest(b"", "not JSON"),
    "garbage": Manifest(b"{garbage", "not JSON"),
    "binary": Manifest(bytes(range(256)), "not UTF-8"),
    "cut": Manifest(TEXT.encode()[:-1], "not JSON"),
    "two documents": Manifest(TEXT.encode() * 2, "not JSON"),
    "a list": Manifest(b"[]", "not a JSON object"),
    "null": Manifest(b"null", "not a JSON object"),
    "an empty object": Manifest(b"{}", "schemaVersion"),
    "deep": Manifest(b"[" * 100_000, "nested too deeply"),
    "deep in a field": Manifest(
        with_text('{"schema', '{"x":' + "[" * 100_000 + "]" * 100_000 + ',"schema'),
        "nested too deeply",
    ),
    "deep objects": Manifest(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "long number": Manifest(with_text("2", "9" * 5000), "too long"),
    "half a pair": Manifest(with_text('{"schema', '{"x":"\\ud800","schema'), "surrogate"),
    "surrogate as UTF-8": Manifest(b'{"x":"\xed\xa0\x80"}', "not UTF-8"),
    "same key twice": Manifest(with_text('{"schema', '{"layers":[],"schema'), "same key twice"),
    "same key twice below": Manifest(
        with_text('"size": 2', '"size": 2, "size": 2'), "same key twice"
    ),
    "NaN": Manifest(with_text('{"schema', '{"x":NaN,"schema'), "NaN"),
    "Infinity": Manifest(with_text('{"schema', '{"x":-Infinity,"schema'), "Infinity"),
    "byte order mark": Manifest(b"\xef\xbb\xbf" + TEXT.encode(), "byte order mark"),
    "UTF-16": Manifest(TEXT.encode("utf-16"), "not UTF-8"),
    "another Content-Type": Manifest(
        TEXT.encode(), "must be the same", content_type=mediatype.DOCKER_MANIFEST
    ),
    "an image as index": Manifest(
        TEXT.encode(), "must be the same", content_type=mediatype.OCI_INDEX
    ),
    "both, as an image": Manifest(changed(manifests=[]), "no 'manifests'"),
    "both, as an index": Manifest(
        json.dumps({**INDEX, "layers": []}).encode(),
        "no 'layers'",
        content_type=mediatype.OCI_INDEX,
    ),
    "index with a config": Manifest(
        json.dumps({**INDEX, "config": CONFIG_BLOB.descriptor()}).encode(),
        "no 'config'",
        content_type=mediatype.OCI_INDEX,
    ),
    "no Content-Type": Manifest(TEXT.encode(), "Content-Type", content_type=None),
    "text/html": Manifest(TEXT.encode(), "Content-Type", content_type="text/html"),
    "application/json": Manifest(
        TEXT.encode(), "Content-Type", content_type="application/json; charset=utf-8"
    ),
    "schema 1": Manifest(b'{"schemaVersion":1}', "Docker schema 1", content_type=mediatype.SCHEMA1),
    "signed schema 1": Manifest(
        b'{"schemaVersion":1}', "Push with Docker 1.10", content_type=mediatype.SCHEMA1_SIGNED
    ),
    "schemaVersion 1": Manifest(changed(schemaVersion=1), "schemaVersion"),
    "schemaVersion true": Manifest(changed(schemaVersion=True), "schemaVersion"),
    "no layers": Manifest(
        json.dumps({key: value for key, value in IMAGE.items() if key != "layers"}).encode(),
        "'layers'",
    ),
    "layers as an object": Manifest(changed(layers={}), "'layers'"),
    "no config": Manifest(changed(config=None), "config"),
    "size -1": Manifest(with_layer(size=-1), "layers[0].size"),
    "size 2^63": Manifest(with_layer(size=2**63), "layers[0].size"),
    "size as text": Manifest(with_layer(size="5"), "layers[0].size"),
    "size 5.0": Manifest(with_layer(size=5.0), "layers[0].size"),
    "size true": Manifest(with_layer(size=True), "layers[0].size"),
    "size of another": Manifest(with_layer(size=6), "Correct the size"),
    "size 0": Manifest(with_layer(size=0), "Correct the size"),
    "digest missing": Manifest(changed(layers=[{"size": 5}]), "layers[0].digest"),
    "digest md5": Manifest(with_layer(digest="md5:" + HEX[:32]), "digest", code="DIGEST_INVALID"),
    "digest upper case": Manifest(
        with_layer(digest=LAYER.digest.upper()), "digest", code="DIGEST_INVALID"
    ),
    "url file": Manifest(with_layer(urls=["file:///etc/passwd"]), "URL"),
    "url gopher": Manifest(with_layer(mediaType=FOREIGN, urls=["gopher://x"]), "URL"),
    "url without scheme": Manifest(with_layer(urls=["//169.254.169.254/"]), "URL"),
    "url with a bracket": Manifest(with_layer(urls=["http://["]), "URL"),
    "urls as text": Manifest(with_layer(urls="http://x"), "urls"),
    "annotations a list": Manifest(changed(annotations=["x"]), "annotations"),
    "annotation a number": Manifest(changed(annotations={"x": 1}), "annotations"),
    "artifactType a number": Manifest(changed(artifactType=1), "artifactType"),
    "subject a string": Manifest(changed(subject=ABSENT), "subject"),
    "wrong digest": Manifest(
        TEXT.encode(), "has the digest", code="DIGEST_INVALID", reference=ABSENT
    ),
    "wrong sha512": Manifest(
        TEXT.encode(), "has the digest", code="DIGEST_INVALID", reference=f"sha512:{HEX * 2}"
    ),
    "one byte too large": Manifest(TEXT.encode().ljust(SIZE_LIMIT + 1), "at most", status=413),
    "5 MiB": Manifest(TEXT.encode().ljust(5 * 2**20), "at most", status=413),
    "5 MiB of garbage": Manifest(b"\xff" * 5 * 2**20, "at most", status=413),
}


@pytest.mark.parametrize("row", MANIFESTS)
def test_manifests(registry: Registry, home: str, row: str) -> None:
    case = MANIFESTS[row]
    for blob in (LAYER, CONFIG_BLOB):
        registry.push_blob(home, blob)
    headers = {} if case.content_type is None else {"Content-Type": case.content_type}
    with registry.nothing_stored():
        put = partial(
            registry.ask,
            "PUT",
            f"/v2/{home}/manifests/{case.reference}",
            content=case.content,
            headers=headers,
        )
        response = promptly(put, perf_counter)
        assert case.says in refused(response, case.status, case.code)
    for reference in {case.reference, digest_of(case.content)}:
        assert registry.ask("HEAD", f"/v2/{home}/manifests/{reference}").status_code == 404
    assert registry.tags(home) == ["latest"]


def test_the_rows_are_refused_for_nothing_else(registry: Registry) -> None:
    name = a_name()
    document = Document(TEXT.encode(), mediatype.OCI_MANIFEST, (LAYER, CONFIG_BLOB))
    registry.push(name, "good", document)
    largest = Document(TEXT.encode().ljust(SIZE_LIMIT), mediatype.OCI_MANIFEST)
    registry.push(name, "largest", largest)
    assert registry.get(f"/v2/{name}/manifests/largest").content == largest.content


@pytest.mark.parametrize("chunked", [True, False])
def test_a_manifest_that_is_too_large_is_not_read_on(registry: Registry, chunked: bool) -> None:
    """The answer is there long before a GiB could have been sent."""
    framing: dict[str, str | int] = (
        {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": 2**30}
    )
    head = request_head(
        "PUT", f"/v2/{a_name()}/manifests/x", Content_Type=mediatype.OCI_MANIFEST, **framing
    )
    with registry.nothing_stored(), connect(registry.url) as connection:
        connection.sendall(head)
        block = b"x" * 65536
        piece = b"%x\r\n%s\r\n" % (len(block), block) if chunked else block
        try:
            for _ in range(5 * 16):
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        refused(receive(connection, "PUT"), 413, "MANIFEST_INVALID")


HEADS: dict[str, tuple[str, str, dict[str, str | int], int]] = {
    "a name": ("POST", "/v2/UPPER/blobs/uploads/", {}, 400),
    "a tag": ("PUT", "/v2/a/manifests/.x", {}, 400),
    "a digest": ("PUT", f"/v2/a/manifests/sha256:{HEX[:-1]}", {}, 400),
    "a digest of a whole blob": ("POST", "/v2/a/blobs/uploads/?digest=x", {}, 400),
    "a method": ("PUT", "/v2/_catalog", {}, 405),
    "no upload": ("PATCH", "/v2/a/blobs/uploads/0c337451-7bba-44a7-907d-2be42e7fb013", {}, 404),
    "a manifest too large": ("PUT", "/v2/a/manifests/x", {}, 413),
    "a compressed manifest": ("PUT", "/v2/a/manifests/x", {"Content_Encoding": "gzip"}, 415),
    "what can never hold": ("PUT", "/v2/a/manifests/x", {"If_None_Match": '"x"'}, 412),
}


@pytest.mark.parametrize("row", HEADS)
def test_what_is_wrong_in_a_head_is_refused_before_its_body_is_asked_for(
    registry: Registry, row: str
) -> None:
    if registry.balancer:
        pytest.skip("a balancer answers 100 Continue by itself")
    method, target, headers, status = HEADS[row]
    head = request_head(method, target, Expect="100-continue", Content_Length=2**40, **headers)
    with registry.nothing_stored():
        assert first_status(registry.url, head) == status


def test_everything_that_is_missing_is_named(registry: Registry, home: str) -> None:
    absent = [Blob(some_bytes()) for _ in range(3)]
    document = image(layers=[blob.descriptor() for blob in (*absent, absent[0])])
    with registry.nothing_stored():
        response = registry.put_manifest(home, "bad", document)
        message = refused(response, 400, "MANIFEST_BLOB_UNKNOWN")
    expected = [document.blobs[0].digest, *(blob.digest for blob in absent)]
    assert [error["detail"]["digest"] for error in response.json()["errors"]] == expected
    assert all(digest in message for digest in expected)


def test_blobs_of_another_repository_are_missing(registry: Registry, home: str) -> None:
    document = image(b"secret")
    registry.push(a_name("secret"), "latest", document)
    with registry.nothing_stored():
        response = registry.put_manifest(home, "bad", document)
        refused(response, 400, "MANIFEST_BLOB_UNKNOWN")
        assert len(response.json()["errors"]) == 2


def test_children_that_are_missing_are_named(registry: Registry, home: str) -> None:
    child = image()
    with registry.nothing_stored():
        for document in (index(child), index(child, media_type=mediatype.DOCKER_LIST)):
            response = registry.put_manifest(home, "bad", document)
            assert child.digest in refused(response, 400, "MANIFEST_BLOB_UNKNOWN")


# Uploads. Each row begins an upload with BEGUN in it, does one wrong thing, and then the upload goes on.

BEGUN, REST = b"0123456789", b"abcdefghij"
WHOLE = Blob(BEGUN + REST)


@dataclass(frozen=True)
class Step:
    method: str
    body: bytes = REST
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    status: int = 416
    code: str = "RANGE_INVALID"
    says: str = ""
    old_location: bool = False


def bad_range(text: str) -> Step:
    return Step(
        "PATCH",
        headers={"Content-Range": text},
        status=400,
        code="SIZE_INVALID",
        says="Content-Range",
    )


def misplaced(text: str, method: str = "PATCH") -> Step:
    query = f"digest={WHOLE.digest}" if method == "PUT" else ""
    return Step(
        method, headers={"Content-Range": text}, query=query, says="the upload has 10 bytes"
    )


def bad_digest(query: str) -> Step:
    return Step("PUT", query=query, status=400, code="DIGEST_INVALID")


STEPS: dict[str, Step] = {
    "overlap": misplaced("5-14"),
    "from the beginning": misplaced("0-9"),
    "gap": misplaced("11-20"),
    "far beyond": misplaced("1000-1009"),
    "closing: overlap": misplaced("5-14", "PUT"),
    "closing: gap": misplaced("11-20", "PUT"),
    "old Location": Step("PATCH", old_location=True, says="10 bytes"),
    "old Location, streamed": Step(
        "PATCH", old_location=True, headers={"Transfer-Encoding": "chunked"}, says="10 bytes"
    ),
    "old Location, with its range": Step(
        "PATCH", old_location=True, headers={"Content-Range": "0-9"}, says="10"
    ),
    "old Location, right range": Step(
        "PATCH", old_location=True, headers={"Content-Range": "10-19"}, says="10"
    ),
    "closing: old Location": Step(
        "PUT", old_location=True, query=f"digest={WHOLE.digest}", says="10 bytes"
    ),
    **{
        f"Content-Range {text[:12]}": bad_range(text)
        for text in (
            "a-b", "10", "-", "10-", "-19", "1_0-1_9", "+10-19", "1e1-19", "10-1e1", "0" * 20 + "-19",
            "10-" + "9" * 20, "bytes 10-19/20", "bytes=10-19", "10-19/20", "10-19,20-29", "19-10",
            "10-18", "10-20", "0x0a-0x13", "10--19",
        )
    },
    "gzip": Step("PATCH", headers={"Content-Encoding": "gzip"}, status=415, code="UNSUPPORTED"),
    "closing: gzip": Step(
        "PUT",
        headers={"Content-Encoding": "gzip"},
        query=f"digest={WHOLE.digest}",
        status=415,
        code="UNSUPPORTED",
    ),
    "closing: br": Step(
        "PUT",
        headers={"Content-Encoding": "br, gzip"},
        query=f"digest={WHOLE.digest}",
        status=415,
        code="UNSUPPORTED",
    ),
    "closing: no digest": bad_digest(""),
    "closing: almost a digest": bad_digest(f"digests={ABSENT}"),
    "closing: empty digest": bad_digest("digest="),
    "closing: md5": bad_digest("digest=md5:" + HEX[:32]),
    "closing: upper case": bad_digest("digest=" + WHOLE.digest.upper()),
    "closing: two digests": bad_digest(f"digest={WHOLE.digest}&digest={ABSENT}"),
    "closing: not a digest": bad_digest("digest=sha256:..%2F.."),
}  # fmt: skip


def send(registry: Registry, step: Step, location: str) -> httpx.Response:
    body: bytes | Iterator[bytes] = step.body
    headers = dict(step.headers)
    if headers.pop("Transfer-Encoding", None):
        body = iter([step.body])
    target = f"{location}&{step.query}" if step.query else location
    return registry.ask(step.method, target, content=body, headers=headers)


@pytest.mark.parametrize("row", STEPS)
def test_uploads(registry: Registry, row: str) -> None:
    step, name = STEPS[row], a_name()
    begun = registry.start(name)
    location = registry.patch(begun, BEGUN, 0).headers["Location"]
    with registry.nothing_stored():
        response = send(registry, step, begun if step.old_location else location)
        if registry.in_bucket and row == "closing: old Location":
            # A closing request that bears out its digest needs no look at what the upload has.
            step = bad_digest(step.query)
        assert step.says in refused(response, step.status, step.code)
    if step.status == 416:
        assert response.headers["Range"] == "0-9"
        location = response.headers["Location"]
    assert registry.get(begun).headers["Range"] == "0-9"
    assert registry.finish(location, WHOLE.digest, REST).status_code == 201
    assert registry.get(f"/v2/{name}/blobs/{WHOLE.digest}").content == WHOLE.data


def test_non_ascii_digits_in_a_range(registry: Registry) -> None:
    location = registry.patch(registry.start(a_name()), BEGUN, 0).headers["Location"]
    with registry.nothing_stored():
        head = request_head(
            "PATCH", location, Content_Length=10, Content_Range="\xd9\xa1\xd9\xa0-19"
        )
        response = registry.raw(head + REST)
        assert response.status_code == 400
    assert registry.get(location).headers["Range"] == "0-9"


@pytest.mark.parametrize("way", ["put", "patch", "chunks", "post"])
@pytest.mark.parametrize("wrong", [digest_of(b"x"), digest_of(b"x", "sha512"), digest_of(BEGUN)])
def test_content_that_is_not_what_its_digest_says(registry: Registry, way: str, wrong: str) -> None:
    """Never a blob; where there is an upload, it goes on."""
    name = a_name()
    with registry.nothing_stored(uploads=False):
        if way == "post":
            with registry.nothing_stored():
                response = registry.ask(
                    "POST", f"/v2/{name}/blobs/uploads/?digest={wrong}", content=WHOLE.data
                )
                refused(response, 400, "DIGEST_INVALID")
            return
        location = registry.start(name)
        if way == "patch":
            location = registry.patch(location, WHOLE.data).headers["Location"]
        if way == "chunks":
            location = registry.patch(location, BEGUN, 0).headers["Location"]
        body = {"put": WHOLE.data, "patch": b"", "chunks": REST}[way]
        message = refused(registry.finish(location, wrong, body), 400, "DIGEST_INVALID")
        assert wrong in message
    for digest in (wrong, WHOLE.digest):
        assert registry.ask("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 404
    status = registry.get(location)
    location, held = status.headers["Location"], int(status.headers["Range"].removeprefix("0-"))
    kept = held + 1 if held else 0
    assert kept == len(WHOLE.data) - (len(body) if registry.in_bucket else 0)
    assert registry.finish(location, WHOLE.digest, WHOLE.data[kept:]).status_code == 201


@pytest.mark.parametrize("body", [WHOLE.data[:-1], WHOLE.data + b"x", b""])
def test_bodies_that_are_too_short_or_too_long_for_their_digest(
    registry: Registry, body: bytes
) -> None:
    name = a_name()
    with registry.nothing_stored(uploads=False):
        response = registry.finish(registry.start(name), WHOLE.digest, body)
        refused(response, 400, "DIGEST_INVALID")
    assert registry.ask("HEAD", f"/v2/{name}/blobs/{WHOLE.digest}").status_code == 404


def test_a_compressed_manifest_and_a_compressed_single_post(registry: Registry) -> None:
    name = a_name()
    with registry.nothing_stored():
        gzip = {"Content-Encoding": "gzip"}
        target = f"/v2/{name}/blobs/uploads/?digest={WHOLE.digest}"
        response = registry.ask("POST", target, content=WHOLE.data, headers=gzip)
        assert "Content-Encoding" in refused(response, 415, "UNSUPPORTED")
        response = registry.put_manifest(name, "x", image(), Content_Encoding="gzip")
        refused(response, 415, "UNSUPPORTED")


def tampered(location: str) -> Iterator[tuple[str, str]]:
    plain, _, token = location.partition("?_state=")
    yield "none", plain
    yield "empty", f"{plain}?_state="
    yield "not base64", f"{plain}?_state=%25%25"
    yield "cut", f"{plain}?_state={token[:-4]}"
    yield "longer", f"{plain}?_state={token}AAAA"
    flipped = "A" if token[60] != "A" else "B"
    yield "changed", f"{plain}?_state={token[:60]}{flipped}{token[61:]}"
    yield "signature changed", f"{plain}?_state={'A' if token[0] != 'A' else 'B'}{token[1:]}"
    yield "huge", f"{plain}?_state={'A' * 5000}"
    yield "a pickle", f"{plain}?_state=gASVIQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjARkYXRllIWUUpQu"


def test_forged_tokens(registry: Registry) -> None:
    name = a_name()
    location = registry.patch(registry.start(name), BEGUN).headers["Location"]
    with registry.nothing_stored():
        for kind, forged in tampered(location):
            for response in (
                registry.patch(forged, REST),
                registry.ask("PUT", with_query(forged, digest=WHOLE.digest), content=REST),
                registry.ask("DELETE", forged),
            ):
                message = refused(response, 404, "BLOB_UPLOAD_INVALID")
                assert "Use the Location" in message, kind
    assert registry.finish(location, WHOLE.digest, REST).status_code == 201


def test_an_upload_of_another_repository(registry: Registry) -> None:
    name, other = a_name(), a_name()
    location = registry.patch(registry.start(name), BEGUN).headers["Location"]
    moved = location.replace(name, other)
    registry.push_image(other, "latest")
    with registry.nothing_stored():
        refused(registry.get(moved), 404, "BLOB_UPLOAD_UNKNOWN")
        refused(registry.patch(moved, REST), 404, "BLOB_UPLOAD_INVALID")
        refused(registry.finish(moved, digest_of(BEGUN)), 404, "BLOB_UPLOAD_INVALID")
        refused(registry.ask("DELETE", moved), 404, "BLOB_UPLOAD_INVALID")
    own = registry.start(other)
    with registry.nothing_stored():
        swapped = f"{location.partition('?')[0]}?{own.partition('?')[2]}"
        refused(registry.patch(swapped, REST), 404, "BLOB_UPLOAD_INVALID")
    assert registry.finish(location, WHOLE.digest, REST).status_code == 201
