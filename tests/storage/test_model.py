"""Values that cannot be invalid: digests, names, strict JSON, descriptors, manifests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.model import mediatype, strictjson
from storage.model.descriptor import Descriptor
from storage.model.digest import Digest, parse_algorithm
from storage.model.errors import (
    DigestInvalid,
    ManifestInvalid,
    NameInvalid,
    RegistryError,
    TagInvalid,
)
from storage.model.manifest import SIZE_LIMIT, Manifest, references, stored_media_type
from storage.model.reference import RepositoryName, Tag
from tests.support.promptness import grows_linearly, promptly

HEX = "0123456789abcdef" * 4
ABSENT = f"sha256:{HEX}"


@settings(deadline=None)
@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_a_digest_is_of_its_bytes(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert str(digest) == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert digest.matches(data)
    assert not digest.matches(data + b"x")
    assert Digest.parse(str(digest)) == digest


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except DigestInvalid:
        return
    assert str(digest) == text


@pytest.mark.parametrize(
    "text", ["sha256", "sha256:", ":", "", f"sha256:{HEX}:", f"sha256:{HEX}\n"]
)
def test_bad_digests(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


def test_a_digest_cannot_be_made_invalid() -> None:
    with pytest.raises(DigestInvalid):
        Digest("sha256", "..")
    with pytest.raises(DigestInvalid):
        Digest("md5", HEX[:32])


def test_algorithms() -> None:
    assert parse_algorithm("sha512") == "sha512"
    for text in ("", "md5", "SHA256", "sha384", "sha256 "):
        with pytest.raises(DigestInvalid):
            parse_algorithm(text)


@pytest.mark.parametrize(
    "name", ["a", "0", "a/b", "a.b", "a_b", "a__b", "a-b", "a---b", "a" * 255, "a/0/b--c"]
)
def test_names(name: str) -> None:
    assert str(RepositoryName.parse(name)) == name


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "a..b", "a___b", "a.-b", "A", "a" * 256, "é", "a\n", "..", "_a"]
)  # fmt: skip
def test_bad_names(name: str) -> None:
    with pytest.raises(NameInvalid):
        RepositoryName.parse(name)


@pytest.mark.parametrize("tag", ["a", "_", "A.b-c_d", "0" * 128, "sha256-" + HEX])
def test_tags(tag: str) -> None:
    assert str(Tag.parse(tag)) == tag


@pytest.mark.parametrize("tag", ["", ".", "-a", "a" * 129, "a/b", "a:b", "é", "a\n", "٣"])
def test_bad_tags(tag: str) -> None:
    with pytest.raises(TagInvalid):
        Tag.parse(tag)


CALM = settings(max_examples=50, deadline=None)
"""A busy machine is no failure."""

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda child: st.lists(child, max_size=4) | st.dictionaries(TEXT, child, max_size=4),
    max_leaves=6,
)  # fmt: skip


@CALM
@given(JSON, st.booleans())
def test_strict_json_takes_all_json(value: Any, ascii_only: bool) -> None:
    assert strictjson.loads(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@CALM
@given(st.binary(max_size=300))
def test_strict_json_refuses_in_one_way_only(data: bytes) -> None:
    try:
        strictjson.loads(data)
    except strictjson.NotStrictJson:
        pass


NOT_JSON = {
    "nothing": b"",
    "garbage": b"{garbage",
    "trailing": b"{} {}",
    "not UTF-8": b'"\xff"',
    "overlong": b'"\xc0\xaf"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "repeated key": b'{"a": 1, "a": 1}',
    "repeated key below": b'[{"x": {"a": 1, "b": 2, "a": 3}}]',
    "repeated escaped key": b'{"a": 1, "\\u0061": 2}',
    "half a pair": b'{"a": "\\ud800"}',
    "half a pair as key": b'{"\\udfff": 1}',
    "pair reversed": b'["\\udc00\\ud800"]',
    "surrogates as UTF-8": b'"\xed\xa0\x80"',
    "control character": b'"\n"',
    "deep list": b"[" * 100_000,
    "deep list, closed": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep, with a pair": b"[" * 990 + b'"\\ud800"' + b"]" * 990,
    "long number": b"9" * 5000,
    "long negative": b'{"size": -' + b"9" * 5000 + b"}",
    "comment": b"{} // x",
    "single quotes": b"{'a': 1}",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_not_strict_json(name: str) -> None:
    def load() -> None:
        with pytest.raises(strictjson.NotStrictJson):
            strictjson.loads(NOT_JSON[name])

    promptly(load)


@pytest.mark.parametrize(
    ("begin", "repeated", "end"),
    [
        (b"[", b"[", b""),
        (b"", b'{"a":', b""),
        (b"[", b'{"a":1,"b":2},', b"0]"),
        (b"{", b'"a":1,', b'"a":1}'),
        (b'["', b"\\ud83d\\ude00", b'"]'),
        (b'["', b"\\\\", b'"]'),
        (b"", b" ", b""),
        (b"", b"9", b""),
        (b"-", b"9", b""),
        (b"0.", b"9", b"e"),
        (b'"', b"\xc3\xa4", b""),
    ],
)
def test_reading_json_takes_no_longer_than_its_length_explains(
    begin: bytes, repeated: bytes, end: bytes
) -> None:
    def load(size: int) -> None:
        try:
            strictjson.loads(begin + repeated * size + end)
        except strictjson.NotStrictJson:
            pass

    grows_linearly(load, 20_000)


def test_whole_pairs_are_fine() -> None:
    assert strictjson.loads(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert strictjson.loads(b'"\\\\ud800"') == "\\ud800"


def descriptor(**changes: Any) -> dict[str, Any]:
    value = {"mediaType": "x/y", "digest": ABSENT, "size": 5, **changes}
    return {key: item for key, item in value.items() if item is not ...}


def test_descriptors() -> None:
    parsed = Descriptor.parse(
        descriptor(urls=["https://a"], platform={"os": "linux"}, data="aGk=", own={"a": [1]}),
        "config",
    )
    assert parsed == Descriptor("x/y", Digest.parse(ABSENT), 5, ("https://a",), {"os": "linux"})
    assert Descriptor.parse(descriptor(size=0), "x").size == 0
    assert Descriptor.parse(descriptor(size=2**63 - 1), "x").size == 2**63 - 1
    assert Descriptor.parse(descriptor(mediaType=...), "x").media_type == ""
    assert Descriptor.parse(descriptor(urls=None, platform=None), "x").urls == ()


@pytest.mark.parametrize(
    "value",
    [
        None, [], "x", 5, {}, descriptor(digest=...), descriptor(digest=5), descriptor(digest="x"),
        descriptor(digest="md5:x"), descriptor(size=...), descriptor(size=-1), descriptor(size=2**63),
        descriptor(size=5.0), descriptor(size="5"), descriptor(size=True), descriptor(size=None),
        descriptor(mediaType=5), descriptor(urls="https://a"), descriptor(urls=[5]),
        descriptor(urls={"a": "b"}),
    ],
)  # fmt: skip
def test_bad_descriptors(value: Any) -> None:
    with pytest.raises((ManifestInvalid, DigestInvalid)) as caught:
        Descriptor.parse(value, "layers[3]")
    if not isinstance(caught.value, DigestInvalid):
        assert "layers[3]" in caught.value.message


def image_document(**changes: Any) -> dict[str, Any]:
    value = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": descriptor(mediaType="config/type"),
        "layers": [descriptor(mediaType="layer/type"), descriptor(size=6)],
        **changes,
    }
    return {key: item for key, item in value.items() if item is not ...}


def index_document(**changes: Any) -> dict[str, Any]:
    value = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [descriptor(platform={"os": "linux", "architecture": "arm64"})],
        **changes,
    }
    return {key: item for key, item in value.items() if item is not ...}


def parse(document: Any, content_type: str = mediatype.OCI_MANIFEST) -> Manifest:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Manifest.parse(content, content_type)


def test_an_image() -> None:
    manifest = parse(image_document(annotations={"a": "b"}, subject=descriptor(size=7)))
    assert manifest.media_type == mediatype.OCI_MANIFEST
    assert [blob.media_type for blob in manifest.blobs] == ["config/type", "layer/type", "x/y"]
    assert manifest.children == ()
    assert manifest.subject is not None
    assert manifest.subject.size == 7
    assert manifest.artifact_type == "config/type"
    assert manifest.annotations == {"a": "b"}
    assert list(references(manifest)) == [Digest.parse(ABSENT)] * 3


def test_an_index() -> None:
    manifest = parse(index_document(), mediatype.OCI_INDEX)
    assert manifest.blobs == ()
    (child,) = manifest.children
    assert child.platform == {"os": "linux", "architecture": "arm64"}
    assert manifest.artifact_type is None
    assert manifest.subject is None


def test_the_artifact_type() -> None:
    assert parse(image_document(artifactType="a/b")).artifact_type == "a/b"
    assert parse(image_document(artifactType="")).artifact_type == "config/type"
    assert parse(index_document(artifactType="a/b"), mediatype.OCI_INDEX).artifact_type == "a/b"


@pytest.mark.parametrize(
    "content_type",
    [mediatype.OCI_MANIFEST + "; charset=utf-8", f" {mediatype.OCI_MANIFEST.upper()} ;x=y"],
)
def test_parameters_and_case_of_the_content_type_do_not_matter(content_type: str) -> None:
    assert parse(image_document(), content_type).media_type == mediatype.OCI_MANIFEST


def test_only_oci_documents_may_leave_their_type_out() -> None:
    assert parse(image_document(mediaType=...)).media_type == mediatype.OCI_MANIFEST
    assert (
        parse(index_document(mediaType=...), mediatype.OCI_INDEX).media_type == mediatype.OCI_INDEX
    )
    for document, media_type in (
        (image_document(mediaType=...), mediatype.DOCKER_MANIFEST),
        (index_document(mediaType=...), mediatype.DOCKER_LIST),
    ):
        with pytest.raises(ManifestInvalid):
            parse(document, media_type)


def test_a_list_may_be_null() -> None:
    assert parse(image_document(layers=None)).blobs == parse(image_document(layers=[])).blobs
    assert parse(index_document(manifests=None), mediatype.OCI_INDEX).children == ()


def test_the_bytes_are_kept() -> None:
    content = (
        b' {"schemaVersion":2, \n"own": 1e5, "layers":[],"config":%s}\n\n'
        % json.dumps(descriptor()).encode()
    )
    assert parse(content).content == content


BAD_MANIFESTS: dict[str, tuple[Any, str]] = {
    "list": ([], mediatype.OCI_MANIFEST),
    "null": (None, mediatype.OCI_MANIFEST),
    "empty object": ({}, mediatype.OCI_MANIFEST),
    "no schemaVersion": (image_document(schemaVersion=...), mediatype.OCI_MANIFEST),
    "schemaVersion 1": (image_document(schemaVersion=1), mediatype.OCI_MANIFEST),
    "schemaVersion true": (image_document(schemaVersion=True), mediatype.OCI_MANIFEST),
    "schemaVersion as text": (image_document(schemaVersion="2"), mediatype.OCI_MANIFEST),
    "another type": (image_document(), mediatype.DOCKER_MANIFEST),
    "index as image": (index_document(), mediatype.OCI_MANIFEST),
    "index fields as image": (
        index_document(mediaType=mediatype.OCI_MANIFEST), mediatype.OCI_MANIFEST,
    ),
    "image fields as index": (
        image_document(mediaType=mediatype.OCI_INDEX), mediatype.OCI_INDEX,
    ),
    "type is a number": (image_document(mediaType=5), mediatype.OCI_MANIFEST),
    "type is a list": (image_document(mediaType=[mediatype.OCI_MANIFEST]), mediatype.OCI_MANIFEST),
    "both, as image": (image_document(manifests=[]), mediatype.OCI_MANIFEST),
    "both, as index": (index_document(layers=[]), mediatype.OCI_INDEX),
    "index with config": (index_document(config=descriptor()), mediatype.OCI_INDEX),
    "index with fsLayers": (index_document(fsLayers=[]), mediatype.OCI_INDEX),
    "no config": (image_document(config=...), mediatype.OCI_MANIFEST),
    "config null": (image_document(config=None), mediatype.OCI_MANIFEST),
    "no layers": (image_document(layers=...), mediatype.OCI_MANIFEST),
    "layers an object": (image_document(layers={}), mediatype.OCI_MANIFEST),
    "layer of bad size": (image_document(layers=[descriptor(size=-1)]), mediatype.OCI_MANIFEST),
    "no manifests": (index_document(manifests=...), mediatype.OCI_INDEX),
    "subject a string": (image_document(subject=ABSENT), mediatype.OCI_MANIFEST),
    "subject empty": (image_document(subject={}), mediatype.OCI_MANIFEST),
    "artifactType a number": (image_document(artifactType=5), mediatype.OCI_MANIFEST),
    "annotations a list": (image_document(annotations=["a"]), mediatype.OCI_MANIFEST),
    "annotation a number": (image_document(annotations={"a": 1}), mediatype.OCI_MANIFEST),
    "no content type": (image_document(), ""),
    "text/html": (image_document(), "text/html"),
    "application/json": (image_document(), "application/json"),
    "octet-stream": (image_document(), mediatype.BLOB),
    "two types": (image_document(), f"{mediatype.OCI_MANIFEST}, text/html"),
    "schema 1": ({"schemaVersion": 1}, mediatype.SCHEMA1),
    "signed schema 1": ({"schemaVersion": 1}, mediatype.SCHEMA1_SIGNED),
    **{name: (content, mediatype.OCI_MANIFEST) for name, content in NOT_JSON.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_manifests(name: str) -> None:
    document, content_type = BAD_MANIFESTS[name]
    with pytest.raises(ManifestInvalid) as caught:
        parse(document, content_type)
    assert caught.value.message.endswith(".")
    assert len(caught.value.message) < 600


def test_schema_1_is_refused_with_what_to_do() -> None:
    with pytest.raises(ManifestInvalid, match=r"Push with Docker 1\.10 or newer"):
        parse({"schemaVersion": 1}, mediatype.SCHEMA1_SIGNED)


@CALM
@given(JSON, st.sampled_from(sorted(mediatype.MANIFESTS)))
def test_any_json_is_a_manifest_or_refused(document: Any, content_type: str) -> None:
    try:
        parse(document, content_type)
    except RegistryError:
        pass


FIELDS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations",
          "artifactType"]  # fmt: skip


@CALM
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), st.booleans())
def test_any_value_of_a_known_field_is_taken_or_refused(changes: Any, image: bool) -> None:
    document = image_document(**changes) if image else index_document(**changes)
    try:
        manifest = parse(document, mediatype.OCI_MANIFEST if image else mediatype.OCI_INDEX)
    except RegistryError:
        return
    json.dumps(manifest.annotations)
    assert all(type(descriptor.size) is int for descriptor in manifest.blobs)


@CALM
@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_fields_of_ones_own_are_fine(extra: Any) -> None:
    document = {**extra, **image_document()}
    document.pop("manifests", None)
    content = json.dumps({key: value for key, value in document.items() if key not in
                          {"subject", "annotations", "artifactType"}}).encode()  # fmt: skip
    assert parse(content).content == content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps(image_document()).encode(), mediatype.OCI_MANIFEST),
        (json.dumps(image_document(mediaType=...)).encode(), mediatype.OCI_MANIFEST),
        (json.dumps(index_document(mediaType=...)).encode(), mediatype.OCI_INDEX),
        (
            json.dumps(index_document(mediaType=mediatype.DOCKER_LIST)).encode(),
            mediatype.DOCKER_LIST,
        ),
        (b'{"schemaVersion": 1, "signatures": []}', mediatype.SCHEMA1_SIGNED),
        (b'{"schemaVersion": 1}', mediatype.SCHEMA1),
        (b'{"schemaVersion": 2, "mediaType": "text/html\\r\\nX: y"}', mediatype.OCI_MANIFEST),
        (b'{"mediaType": ["x"], "manifests": 5}', mediatype.OCI_INDEX),
        (b'{"manifests": [], "manifests": [], "own": "\\ud800", "x": NaN}', mediatype.OCI_INDEX),
        (b"[]", mediatype.BLOB),
        (b"\xff", mediatype.BLOB),
        (b"garbage", mediatype.BLOB),
        (b"[" * 100_000, mediatype.BLOB),
    ],
)
def test_the_type_of_what_is_stored(content: bytes, expected: str) -> None:
    assert stored_media_type(content) == expected


def test_layers_that_may_be_elsewhere() -> None:
    for text in (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ):
        assert mediatype.may_be_elsewhere(text)
    assert not mediatype.may_be_elsewhere("application/vnd.oci.image.layer.v1.tar+zstd")


def test_the_size_limit_is_what_the_spec_recommends() -> None:
    assert SIZE_LIMIT == 4 * 1024 * 1024
