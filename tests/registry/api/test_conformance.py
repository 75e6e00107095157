"""Content of every shape from its push to its deletion, as the specification's conformance suite goes.

Blobs first, each by another of the four ways; manifests by digest, children before what names them; tags;
then lists, pulls, referrers; and all of it deleted in the other order, and gone at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.support.registry import (
    EMPTY,
    Blob,
    Document,
    Registry,
    a_name,
    image,
    index,
    some_bytes,
)

KIND, OTHER = "application/vnd.example.one.v1", "application/vnd.example.two.v1"
NOTES = {"org.example.note": "kept"}


def an_image(algorithm: str = "sha256", **fields: Any) -> Document:
    return image(some_bytes(3000), some_bytes(2048), algorithm=algorithm, **fields)


def an_artifact(kind: str, *layers: bytes, **fields: Any) -> Document:
    config = Blob(b"{}", EMPTY)
    return image(*layers, config=config, artifactType=kind, **fields)


@dataclass(frozen=True)
class Shape:
    documents: tuple[Document, ...]
    """Children before what names them."""
    tagged: tuple[Document, ...]
    by_query: bool = False
    """The tags come with the push by digest (end-7b), which is the only way for a sha512 digest."""


def plain(*documents: Document) -> Shape:
    return Shape(documents, documents[-1:])


def of_two(algorithm: str = "sha256", **fields: Any) -> tuple[Document, ...]:
    two = an_image(algorithm), an_image(algorithm)
    return (*two, index(*two, algorithm=algorithm, **fields))


def nested() -> Shape:
    one, two = of_two(), of_two()
    return plain(*one, *two, index(one[-1], two[-1]))


def artifact_index() -> Shape:
    two = an_artifact(KIND, some_bytes()), an_artifact(KIND, some_bytes())
    return plain(*two, index(*two, artifactType=KIND))


def artifacts_with_a_subject() -> Shape:
    subject = an_image()
    pointer = subject.descriptor()
    tagged = (
        an_artifact(KIND, some_bytes(), subject=pointer, annotations=NOTES),
        an_artifact(OTHER, some_bytes(), subject=pointer, annotations={**NOTES, "more": "too"}),
    )
    return Shape((subject, an_image(subject=pointer), *tagged), (subject, *tagged))


def index_with_a_subject() -> Shape:
    subject = of_two()
    children = an_artifact(KIND, some_bytes()), an_artifact(KIND, some_bytes())
    pointing = index(
        *children, subject=subject[-1].descriptor(), artifactType=KIND, annotations=NOTES
    )
    return Shape((*subject, *children, pointing), (subject[-1], pointing))


def with_everything_tagged(algorithm: str) -> Shape:
    documents = of_two(algorithm)
    return Shape(documents, documents, by_query=True)


SHAPES: dict[str, Callable[[], Shape]] = {
    "image": lambda: plain(an_image()),
    "index": lambda: plain(*of_two()),
    "nested index": nested,
    "empty index": lambda: plain(index()),
    "artifact": lambda: plain(an_artifact(KIND, some_bytes())),
    "artifact index": artifact_index,
    "artifacts with a subject": artifacts_with_a_subject,
    "index with a subject": index_with_a_subject,
    "absent subject": lambda: plain(an_artifact(KIND, subject=an_image().descriptor())),
    "fields of one's own": lambda: plain(*of_two(own={"x": [1.5, None]})),
    "sha512": lambda: Shape(of_two("sha512"), ()),
    "tags with the digest": lambda: with_everything_tagged("sha256"),
    "tags with the digest, sha512": lambda: with_everything_tagged("sha512"),
}


def by_post_and_put(registry: Registry, name: str, blob: Blob) -> httpx.Response:
    return registry.finish(registry.start(name), blob.digest, blob.data)


def by_post(registry: Registry, name: str, blob: Blob) -> httpx.Response:
    query = urlencode({"digest": blob.digest})
    return registry.ask("POST", f"/v2/{name}/blobs/uploads/?{query}", content=blob.data)


def streamed(registry: Registry, name: str, blob: Blob) -> httpx.Response:
    answer = registry.patch(registry.start(name), iter([blob.data]))
    return registry.finish(answer.headers["Location"], blob.digest)


def in_chunks(registry: Registry, name: str, blob: Blob) -> httpx.Response:
    """The second one is sent too early at first, and the status tells where to go on."""
    half = len(blob.data) // 2 + 1
    location = registry.start(name)
    early = registry.patch(location, blob.data[half:] or b"x", half)
    assert early.status_code == 416
    location = registry.get(location).headers["Location"]
    location = registry.patch(location, blob.data[:half], 0).headers["Location"]
    rest = blob.data[half:]
    where = {"Content-Range": f"{half}-{len(blob.data) - 1}"} if rest else {}
    return registry.finish(location, blob.digest, rest, headers=where)


WAYS = (by_post_and_put, by_post, streamed, in_chunks)


@pytest.mark.parametrize("kind", SHAPES)
def test_from_push_to_deletion(registry: Registry, kind: str) -> None:
    name, shape = a_name(), SHAPES[kind]()
    tags = {f"{kind.split(' ')[0]}-{number}": doc for number, doc in enumerate(shape.tagged)}
    blobs = {blob.digest: blob for document in shape.documents for blob in document.blobs}
    for way, blob in zip(cycle(WAYS), blobs.values(), strict=False):
        answer = way(registry, name, blob)
        assert answer.status_code == 201, answer.text
        assert registry.get(answer.headers["Location"]).content == blob.data
    push(registry, name, shape, tags)
    look(registry, name, shape, tags, blobs)
    refer(registry, name, shape)
    for path in deletions(name, shape, tags, blobs):
        assert registry.ask("DELETE", path).status_code == 202
        assert registry.ask("HEAD", path).status_code == 404


def push(registry: Registry, name: str, shape: Shape, tags: dict[str, Document]) -> None:
    for document in shape.documents:
        given = [tag for tag, tagged in tags.items() if tagged is document and shape.by_query]
        query = f"?{urlencode([('tag', tag) for tag in given])}" if given else ""
        answer = registry.put_manifest(name, document.digest + query, document)
        accepted(registry, answer, document)
        assert answer.headers.get_list("OCI-Tag") == given
    for tag, document in tags.items():
        if not shape.by_query:
            accepted(registry, registry.put_manifest(name, tag, document), document)


def accepted(registry: Registry, answer: httpx.Response, document: Document) -> None:
    assert answer.status_code == 201, answer.text
    assert answer.headers["Docker-Content-Digest"] == document.digest
    subject = json.loads(document.content).get("subject")
    assert answer.headers.get("OCI-Subject") == (subject and subject["digest"])
    assert registry.get(answer.headers["Location"]).content == document.content


def look(
    registry: Registry,
    name: str,
    shape: Shape,
    tags: dict[str, Document],
    blobs: dict[str, Blob],
) -> None:
    assert registry.tags(name) == sorted(tags)
    if len(tags) > 1:
        first, *others = sorted(tags)
        found = registry.get(f"/v2/{name}/tags/list?last={first}").json()["tags"]
        assert found == others
    wanted = {document.digest: document for document in shape.documents} | tags
    for reference, document in wanted.items():
        answer = same(registry, f"/v2/{name}/manifests/{reference}", document.content)
        assert answer.headers["Content-Type"] == document.media_type
        assert answer.headers["Docker-Content-Digest"] == document.digest
    for digest, blob in blobs.items():
        answer = same(registry, f"/v2/{name}/blobs/{digest}", blob.data)
        assert answer.headers["Docker-Content-Digest"] == digest


def same(registry: Registry, path: str, content: bytes) -> httpx.Response:
    """The answer to GET; HEAD tells the same of it."""
    got, head = registry.get(path), registry.ask("HEAD", path)
    assert (got.status_code, head.status_code) == (200, 200)
    assert (got.content, head.content) == (content, b"")
    for answer in (got, head):
        assert answer.headers["Content-Length"] == str(len(content))
    assert got.headers["Docker-Content-Digest"] == head.headers["Docker-Content-Digest"]
    return got


def refer(registry: Registry, name: str, shape: Shape) -> None:
    expected: dict[str, list[dict[str, object]]] = {}
    for document in shape.documents:
        parsed = json.loads(document.content)
        if "subject" in parsed:
            kind = parsed.get("artifactType") or parsed.get("config", {}).get("mediaType")
            shown = document.descriptor(artifactType=kind)
            if "annotations" in parsed:
                shown["annotations"] = parsed["annotations"]
            expected.setdefault(parsed["subject"]["digest"], []).append(shown)
    for subject, listed in expected.items():
        listed.sort(key=lambda entry: str(entry["digest"]))
        path = f"/v2/{name}/referrers/{subject}"
        assert registry.get(path).json()["manifests"] == listed
        for kind in {str(entry["artifactType"]) for entry in listed}:
            answer = registry.get(f"{path}?{urlencode({'artifactType': kind})}")
            assert answer.headers["OCI-Filters-Applied"] == "artifactType"
            filtered = [entry for entry in listed if entry["artifactType"] == kind]
            assert answer.json()["manifests"] == filtered


def deletions(
    name: str, shape: Shape, tags: dict[str, Document], blobs: dict[str, Blob]
) -> Iterator[str]:
    for reference in (*tags, *(document.digest for document in reversed(shape.documents))):
        yield f"/v2/{name}/manifests/{reference}"
    for digest in blobs:
        yield f"/v2/{name}/blobs/{digest}"
