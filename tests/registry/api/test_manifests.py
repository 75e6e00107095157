"""end-3, end-7 and end-9: manifests by tag and digest, of every type, and compare-and-set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from storage.model import mediatype
from storage.model.manifest import SIZE_LIMIT
from tests.support.registry import (
    CONFIG,
    EMPTY,
    Blob,
    Document,
    Registry,
    Serving,
    a_name,
    digest_of,
    image,
    index,
    refused,
    some_bytes,
    together,
)

ABSENT = digest_of(b"absent")
EMPTY_BLOB = Blob(b"{}", EMPTY)


def path(name: str, reference: str) -> str:
    return f"/v2/{name}/manifests/{reference}"


def check(registry: Registry, name: str, reference: str, document: Document, digest: str) -> None:
    for method in ("GET", "HEAD"):
        response = registry.ask(method, path(name, reference))
        assert response.status_code == 200, response.text
        assert response.content == (document.content if method == "GET" else b"")
        assert response.headers["Content-Type"] == document.media_type
        assert response.headers["Content-Length"] == str(len(document.content))
        assert response.headers["Docker-Content-Digest"] == digest
        assert response.headers["ETag"] == f'"{digest}"'


def exact(text: str, media_type: str, *blobs: Blob) -> Document:
    return Document(text.encode(), media_type, blobs)


EMPTY_JSON = json.dumps(EMPTY_BLOB.descriptor())


def layer(media_type: str) -> Document:
    blob = Blob(some_bytes(), media_type)
    document = image(layers=[blob.descriptor()])
    return Document(document.content, document.media_type, (*document.blobs, blob))


LARGE = {f"annotation-{number}": "x" * 10_000 for number in range(390)}
IMAGES: dict[str, Document] = {
    "OCI": image(b"layer"),
    "Docker": image(b"layer", media_type=mediatype.DOCKER_MANIFEST),
    "several layers": image(*(some_bytes() for _ in range(20))),
    "no layers": image(),
    "null for layers": image(layers=None),
    "null for manifests": index(manifests=None),
    "the same layer twice": image(b"same", b"same"),
    "empty layer": image(b""),
    "artifact": image(config=EMPTY_BLOB, artifactType="application/vnd.example+type"),
    "artifact with the empty layer": Document(
        image(config=EMPTY_BLOB, layers=[EMPTY_BLOB.descriptor()]).content,
        mediatype.OCI_MANIFEST,
        (EMPTY_BLOB,),
    ),
    "config of any type": image(config=Blob(b"wasm", "application/vnd.wasm.config.v1+json")),
    "zstd": layer("application/vnd.oci.image.layer.v1.tar+zstd"),
    "encrypted": layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
    "no media type": exact(
        f'{{"schemaVersion":2,"config":{EMPTY_JSON},"layers":[]}}',
        mediatype.OCI_MANIFEST,
        EMPTY_BLOB,
    ),
    "data field": image(config=Blob(b"hi", CONFIG), own=[{"data": "aGk="}]),
    "custom fields": exact(
        '\n {"own" :1.50e3,"\\u00e9":"\\ud83d\\ude00",\t"schemaVersion":2,'
        f'"config":{EMPTY_JSON},"layers":[ ], "x":{{"y":[null,true]}}}}\n\n',
        mediatype.OCI_MANIFEST,
        EMPTY_BLOB,
    ),
    "large": image(annotations=LARGE),
    "absent subject": image(
        subject={"mediaType": mediatype.OCI_MANIFEST, "digest": ABSENT, "size": 7}
    ),
    "non-distributable": image(
        layers=[
            Blob(b"far", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip").descriptor(
                urls=["https://example.com/far"]
            )
        ]
    ),
    "foreign": image(
        media_type=mediatype.DOCKER_MANIFEST,
        layers=[
            Blob(b"far", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip").descriptor(
                urls=["https://example.com/far"]
            )
        ],
    ),
    "empty index": index(),
    "empty list": index(media_type=mediatype.DOCKER_LIST),
    "artifact index": index(artifactType="application/vnd.example+type"),
}  # fmt: skip


@pytest.mark.parametrize("kind", IMAGES)
def test_what_was_pushed_comes_back_byte_for_byte(registry: Registry, kind: str) -> None:
    name, document = a_name(), IMAGES[kind]
    registry.push(name, "latest", document)
    check(registry, name, "latest", document, document.digest)
    check(registry, name, document.digest, document, document.digest)


def test_the_large_one_is_nearly_as_large_as_they_may_be() -> None:
    assert 0.9 * SIZE_LIMIT < len(IMAGES["large"].content) < SIZE_LIMIT


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_by_digest(registry: Registry, algorithm: str) -> None:
    name, document = a_name(), image()
    registry.push_blob(name, document.blobs[0])
    digest = digest_of(document.content, algorithm)
    response = registry.put_manifest(name, digest, document)
    assert response.status_code == 201
    assert response.headers["Docker-Content-Digest"] == digest
    assert response.headers["Location"] == path(name, digest)
    check(registry, name, digest, document, digest)
    assert registry.tags(name) == []


def test_the_answer_to_a_push(registry: Registry) -> None:
    name, document = a_name(), image()
    registry.push_blob(name, document.blobs[0])
    response = registry.put_manifest(name, "v1", document)
    assert (response.status_code, response.content) == (201, b"")
    assert response.headers["Content-Length"] == "0"
    assert response.headers["Docker-Content-Digest"] == document.digest
    assert response.headers["Location"] == path(name, document.digest)
    assert registry.get(response.headers["Location"]).content == document.content
    assert "OCI-Subject" not in response.headers
    assert "OCI-Tag" not in response.headers
    assert registry.put_manifest(name, "v1", document).status_code == 201


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_tags_in_the_query(registry: Registry, algorithm: str) -> None:
    """end-7b"""
    name, document = a_name(), image()
    registry.push_blob(name, document.blobs[0])
    digest = digest_of(document.content, algorithm)
    tags = [f"t{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in [*tags, "t0"])
    response = registry.put_manifest(name, f"{digest}?{query}", document)
    assert response.status_code == 201
    assert response.headers.get_list("OCI-Tag") == tags
    assert response.headers["Docker-Content-Digest"] == digest
    assert registry.tags(name) == sorted(tags)
    for tag in tags:
        check(registry, name, tag, document, digest)


@pytest.mark.parametrize(
    ("query", "code"),
    [("tag=.bad", "TAG_INVALID"), ("tag=a&tag=", "TAG_INVALID"), ("tag=a%2Fb", "TAG_INVALID")],
)
def test_bad_tags_in_the_query(registry: Registry, query: str, code: str) -> None:
    name, document = a_name(), image()
    registry.push_blob(name, document.blobs[0])
    with registry.nothing_stored():
        refused(registry.put_manifest(name, f"{document.digest}?{query}", document), 400, code)


def test_too_many_tags_and_tags_beside_a_tag(registry: Registry) -> None:
    name, document = a_name(), image()
    registry.push_blob(name, document.blobs[0])
    many = "&".join(f"tag=t{number}" for number in range(101))
    with registry.nothing_stored():
        response = registry.put_manifest(name, f"{document.digest}?{many}", document)
        assert "another push" in refused(response, 414, "MANIFEST_INVALID")
        refused(registry.put_manifest(name, "x?tag=y", document), 400, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    "accept", [None, "*/*", "text/html", mediatype.DOCKER_MANIFEST, mediatype.OCI_INDEX, ""]
)
def test_served_whatever_accept_says(registry: Registry, accept: str | None) -> None:
    name = a_name()
    document = registry.push(name, "latest", image())
    headers = {} if accept is None else {"Accept": accept}
    response = registry.get(path(name, "latest"), headers=headers)
    assert response.content == document.content
    assert response.headers["Content-Type"] == mediatype.OCI_MANIFEST


@pytest.mark.parametrize("content_type", ["{}; charset=utf-8", "{} ;x=y"])
def test_parameters_of_the_content_type_are_ignored(registry: Registry, content_type: str) -> None:
    name, document = a_name(), image()
    registry.push_blob(name, document.blobs[0])
    response = registry.put_manifest(
        name, "latest", document, Content_Type=content_type.format(document.media_type)
    )
    assert response.status_code == 201, response.text
    check(registry, name, "latest", document, document.digest)


def test_an_index_of_indexes(registry: Registry) -> None:
    name = a_name()
    one, two = (registry.push(name, tag, image(tag.encode())) for tag in ("one", "two"))
    inner = registry.push(name, "inner", index(one, two))
    outer = registry.push(name, "outer", index(inner, one))
    check(registry, name, "outer", outer, outer.digest)
    legacy = index(one, media_type=mediatype.DOCKER_LIST)
    registry.push(name, "legacy", legacy)
    check(registry, name, "legacy", legacy, legacy.digest)


def test_the_cache_of_an_old_buildkit(registry: Registry) -> None:
    name = a_name()
    cached = registry.push_blob(name, Blob(b"layer"))
    config = registry.push_blob(name, Blob(b"{}", "application/vnd.buildkit.cacheconfig.v0"))
    registry.push(name, "cache", index(manifests=[cached.descriptor(), config.descriptor()]))


@pytest.mark.parametrize("reference", ["absent", ABSENT])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_what_is_not_there(registry: Registry, reference: str, method: str) -> None:
    name = a_name()
    registry.push(name, "latest", image())
    for repository in (name, a_name()):
        response = registry.ask(method, path(repository, reference))
        if method == "HEAD":
            assert (response.status_code, response.content) == (404, b"")
        else:
            refused(response, 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("form", ['"{}"', "{}", '"other", "{}"', "*"])
def test_if_none_match(registry: Registry, form: str) -> None:
    name = a_name()
    document = registry.push(name, "latest", image())
    for method in ("GET", "HEAD"):
        for reference in ("latest", document.digest):
            response = registry.ask(
                method,
                path(name, reference),
                headers={"If-None-Match": form.format(document.digest)},
            )
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["ETag"] == f'"{document.digest}"'
            assert response.headers["Docker-Content-Digest"] == document.digest
    moved = registry.push(name, "latest", image())
    stale = {"If-None-Match": f'"{document.digest}"'}
    assert registry.get(path(name, "latest"), headers=stale).content == moved.content


def gone(registry: Registry, name: str, *references: str) -> None:
    for reference in references:
        for method in ("GET", "HEAD"):
            for response in registry.everywhere(method, path(name, reference)):
                assert response.status_code == 404


def test_deletion_of_a_tag(registry: Registry) -> None:
    name = a_name()
    document = registry.push(name, "one", image())
    registry.put_manifest(name, "two", document)
    list(registry.everywhere("GET", path(name, "one")))  # every worker remembers it
    response = registry.ask("DELETE", path(name, "one"))
    assert (response.status_code, response.content) == (202, b"")
    gone(registry, name, "one")
    assert registry.tags(name) == ["two"]
    check(registry, name, document.digest, document, document.digest)
    refused(registry.ask("DELETE", path(name, "one")), 404, "MANIFEST_UNKNOWN")


def test_deletion_of_a_manifest_takes_its_tags(registry: Registry) -> None:
    name = a_name()
    document = registry.push(name, "one", image())
    registry.put_manifest(name, "two", document)
    other = registry.push(name, "other", image())
    for reference in ("one", "two", document.digest):
        list(registry.everywhere("GET", path(name, reference)))
    assert registry.ask("DELETE", path(name, document.digest)).status_code == 202
    gone(registry, name, "one", "two", *([] if registry.in_bucket else [document.digest]))
    for answer in registry.everywhere("HEAD", path(name, document.digest)):
        assert answer.status_code == 404
    assert registry.tags(name) == ["other"]
    check(registry, name, "other", other, other.digest)
    refused(registry.ask("DELETE", path(name, document.digest)), 404, "MANIFEST_UNKNOWN")
    registry.put_manifest(name, document.digest, document)
    gone(registry, name, "one", "two")
    registry.put_manifest(name, "one", document)
    check(registry, name, "one", document, document.digest)


def test_deletion_of_a_child_is_not_refused(registry: Registry) -> None:
    name = a_name()
    child = registry.push(name, "child", image())
    parent = registry.push(name, "parent", index(child))
    assert registry.ask("DELETE", path(name, child.digest)).status_code == 202
    check(registry, name, "parent", parent, parent.digest)


def expect(if_match: str | None = None, if_none_match: str | None = None) -> dict[str, str]:
    headers = {"If_Match": if_match, "If_None_Match": if_none_match}
    return {key: value for key, value in headers.items() if value is not None}


def test_compare_and_set(registry: Registry) -> None:
    name = a_name()
    one, two, three = (registry.push(name, f"keep-{number}", image()) for number in range(3))

    def put(document: Document, **headers: str) -> Any:
        return registry.put_manifest(name, "tag", document, **headers)

    for headers in (expect(f'"{one.digest}"'), expect(one.digest), expect('"x"'), expect("*")):
        refused(put(two, **headers), 412, "PRECONDITION_FAILED")
        gone(registry, name, "tag")
    assert put(one, **expect(if_none_match="*")).status_code == 201
    with registry.nothing_stored():
        message = refused(put(two, **expect(if_none_match="*")), 412, "PRECONDITION_FAILED")
        assert one.digest in message
        for headers in (expect(f'"{two.digest}"'), expect(if_none_match='"x"')):
            refused(put(two, **headers), 412, "PRECONDITION_FAILED")
    check(registry, name, "tag", one, one.digest)
    assert put(two, **expect(f'"{one.digest}"')).status_code == 201
    assert put(three, **expect(two.digest)).status_code == 201
    check(registry, name, "tag", three, three.digest)
    assert put(one, **expect("*")).status_code == 201
    check(registry, name, "tag", one, one.digest)
    refused(put(two, **expect("*", "*")), 412, "PRECONDITION_FAILED")


def test_several_tags_are_all_as_expected_or_none_is_set(registry: Registry) -> None:
    name = a_name()
    old = registry.push(name, "a", image())
    registry.put_manifest(name, "b", old)
    new = registry.push(name, "new", image())
    target = f"{new.digest}?tag=a&tag=b&tag=c"
    for headers in (expect("*"), expect(f'"{old.digest}"'), expect(if_none_match="*")):
        with registry.nothing_stored():
            refused(registry.put_manifest(name, target, new, **headers), 412, "PRECONDITION_FAILED")
    registry.put_manifest(name, "c", old)
    assert registry.put_manifest(name, target, new, **expect("*")).status_code == 201
    for tag in ("a", "b", "c"):
        check(registry, name, tag, new, new.digest)


def test_a_failed_expectation_does_not_store_the_manifest(registry: Registry) -> None:
    name = a_name()
    registry.push(name, "tag", image())
    new = image()
    registry.push_blob(name, new.blobs[0])
    with registry.nothing_stored():
        response = registry.put_manifest(name, "tag", new, **expect(if_none_match="*"))
        refused(response, 412, "PRECONDITION_FAILED")
    gone(registry, name, new.digest)


def test_expectations_of_a_push_by_digest(registry: Registry) -> None:
    name, document = a_name(), image()
    registry.push_blob(name, document.blobs[0])
    for status in (201, 412):
        response = registry.put_manifest(
            name, document.digest, document, **expect(if_none_match="*")
        )
        assert response.status_code == status
    response = registry.put_manifest(
        name, f"{document.digest}?tag=a&tag=b", document, **expect(if_none_match="*")
    )
    assert response.status_code == 201


@pytest.mark.parametrize("exists", [True, False])
def test_of_20_who_compare_and_set_at_once_one_wins(registry: Registry, exists: bool) -> None:
    name = a_name()
    documents = [registry.push(name, f"keep-{number}", image()) for number in range(20)]
    old = registry.push(name, "tag", image()) if exists else None
    condition = expect(f'"{old.digest}"') if old else expect(if_none_match="*")

    def put(number: int) -> int:
        return registry.put_manifest(name, "tag", documents[number], **condition).status_code

    statuses = together(20, put)
    assert sorted(statuses) == [201] + [412] * 19
    winner = documents[list(statuses).index(201)]
    for response in registry.everywhere("GET", path(name, "tag")):
        assert response.content == winner.content


def test_50_pushes_to_one_tag_at_once(registry: Registry) -> None:
    name = a_name()
    config = registry.push_blob(name, Blob(b"{}", CONFIG))
    documents = [image(config=config, own=number) for number in range(50)]

    def put(number: int) -> int:
        return registry.put_manifest(name, "tag", documents[number]).status_code

    assert set(together(50, put)) == {201}
    (content,) = {answer.content for answer in registry.everywhere("GET", path(name, "tag"))}
    assert content in [document.content for document in documents]
    for document in documents:
        assert registry.get(path(name, document.digest)).content == document.content
    assert registry.tags(name) == ["tag"]


def test_children_that_an_operator_does_without(serving: Serving) -> None:
    child = image().descriptor(platform={"os": "linux", "architecture": "arm64"})
    wanted = image().descriptor(platform={"os": "linux", "architecture": "amd64"})
    listed = {"platforms": "list", "platformlist": [{"os": "linux", "architecture": "amd64"}]}
    for indexes, document, status in (
        ({"platforms": "none"}, index(manifests=[child, wanted]), 201),
        (listed, index(manifests=[child]), 201),
        (listed, index(manifests=[child, wanted]), 400),
    ):
        with serving(validation={"manifests": {"indexes": indexes}}) as registry:
            response = registry.put_manifest("a", "latest", document)
            assert response.status_code == status, response.text
            if status == 400:
                assert wanted["digest"] in refused(response, 400, "MANIFEST_BLOB_UNKNOWN")
                assert child["digest"] not in response.text


def test_validation_switched_off(serving: Serving) -> None:
    with serving(validation={"disabled": True}) as registry:
        assert registry.put_manifest("a", "latest", image(b"absent")).status_code == 201
