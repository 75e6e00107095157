"""Paths, queries and headers: what they mean, and all that they must not mean."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.parsing import (
    Kind,
    NotATarget,
    Query,
    QueryInvalid,
    Target,
    parse_chunk,
    parse_etags,
    parse_expectation,
    parse_target,
    parse_upload_id,
)
from storage.driver import ANYTHING
from storage.expectation import PRESENT
from storage.model.digest import Digest
from storage.model.errors import (
    DigestInvalid,
    NameInvalid,
    PaginationInvalid,
    PreconditionFailed,
    RegistryError,
    SizeInvalid,
    TagInvalid,
    UploadUnknown,
)
from storage.model.reference import RepositoryName, Tag
from tests.support.promptness import grows_linearly, promptly

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX * 2}"
UPLOAD = "0c337451-7bba-44a7-907d-2be42e7fb013"


@pytest.mark.parametrize(
    ("path", "kind", "name", "reference"),
    [
        ("", Kind.BASE, None, None),
        ("/", Kind.BASE, None, None),
        ("/_catalog", Kind.CATALOG, None, None),
        ("/a/tags/list", Kind.TAGS, "a", None),
        ("/a/b/c/tags/list", Kind.TAGS, "a/b/c", None),
        ("/a/manifests/latest", Kind.MANIFEST, "a", Tag("latest")),
        (f"/a/manifests/{SHA256}", Kind.MANIFEST, "a", Digest.parse(SHA256)),
        (f"/a/manifests/{SHA512}", Kind.MANIFEST, "a", Digest.parse(SHA512)),
        (f"/a/manifests/sha256%3A{HEX}", Kind.MANIFEST, "a", Digest.parse(SHA256)),
        (f"/a/manifests/sha256%3a{HEX}", Kind.MANIFEST, "a", Digest.parse(SHA256)),
        (f"/a/blobs/{SHA256}", Kind.BLOB, "a", Digest.parse(SHA256)),
        (f"/a/blobs/sha256%3A{HEX}", Kind.BLOB, "a", Digest.parse(SHA256)),
        (f"/a/referrers/{SHA256}", Kind.REFERRERS, "a", Digest.parse(SHA256)),
        ("/a/blobs/uploads/", Kind.UPLOADS, "a", None),
        ("/a/blobs/uploads", Kind.UPLOADS, "a", None),
        # Names made of the words of the API.
        ("/tags/list/tags/list", Kind.TAGS, "tags/list", None),
        ("/manifests/manifests/manifests", Kind.MANIFEST, "manifests", Tag("manifests")),
        ("/a/blobs/uploads/manifests/x", Kind.MANIFEST, "a/blobs/uploads", Tag("x")),
        ("/v2/tags/list", Kind.TAGS, "v2", None),
        ("/docker/registry/v2/tags/list", Kind.TAGS, "docker/registry/v2", None),
        ("/gc/tags/list", Kind.TAGS, "gc", None),
    ],
)
def test_targets(path: str, kind: Kind, name: str | None, reference: Digest | Tag | None) -> None:
    target = parse_target(path.encode())
    assert target.kind is kind
    assert target.named is (name is not None)
    if name is not None:
        assert target.name == RepositoryName(name)
    if reference is not None:
        assert target.reference == reference


def test_an_upload_is_a_target_of_its_own() -> None:
    target = parse_target(f"/a/b/blobs/uploads/{UPLOAD}".encode())
    assert target.kind is Kind.UPLOAD
    assert target.name == RepositoryName("a/b")
    assert target.upload_id == UPLOAD


def test_fields_that_a_target_lacks_cannot_be_asked_for() -> None:
    target = Target(Kind.BASE)
    for ask in (lambda: target.name, lambda: target.reference, lambda: target.digest):
        with pytest.raises(AttributeError):
            ask()
    tagged = parse_target(b"/a/manifests/latest")
    with pytest.raises(AttributeError):
        _ = tagged.digest


@pytest.mark.parametrize(
    "path",
    [
        "/tags/list",
        "/a",
        "/a/",
        "/a/tags",
        "/a/tags/list/",
        "/a/tags/list/more",
        "/_catalog/",
        "/blobs/uploads/",
        f"/blobs/{SHA256}",
        f"/manifests/{SHA256}",
        "/../_catalog",
        "/./_catalog",
        "/a/blobs/uploads/x/y",
    ],
)
def test_paths_that_are_nothing(path: str) -> None:
    with pytest.raises(NotATarget):
        parse_target(path.encode())


@pytest.mark.parametrize(
    "name",
    [
        "/a", "a//b", "a/", ".", "..", "a/../b", "a/./b", ".a", "-a", "a-", "_a", "a_", "a.", "A",
        "aB", "a..b", "a___b", "a._b", "_uploads", "a/_layers", "a/_manifests", "_catalog", "a b",
        "a%2fb", "a%2Fb", "a%2e%2e", "%2e%2e", "%252e", "..;", "a;b", "a%5cb", "a\\b", "a%00", "a\0",
        "a\n", "a%0a", "a%c0%ae", "a:b", "a@b", "a+b", "a~b", "a" * 256, "/".join("a" * 129),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rest", ["tags/list", "manifests/x", f"blobs/{SHA256}", "blobs/uploads/"])
def test_bad_names(name: str, rest: str) -> None:
    with pytest.raises(NameInvalid):
        parse_target(f"/{name}/{rest}".encode())


@pytest.mark.parametrize("path", ["/é/tags/list", "/a/manifests/é", "/ａ/tags/list"])
def test_bytes_outside_ascii(path: str) -> None:
    with pytest.raises(NameInvalid):
        parse_target(path.encode())


@pytest.mark.parametrize(
    "tag", ["", ".a", "-a", "a b", "a+b", "a%20", "a%2fb", "a" * 129, "a\n", "a@b", "..", "%2e%2e"]
)
def test_bad_tags(tag: str) -> None:
    with pytest.raises(TagInvalid):
        parse_target(f"/a/manifests/{tag}".encode())


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"md5:{HEX[:32]}",
        f"sha512:{HEX}", f"sha384:{HEX}{HEX[:32]}", f"sha256+b64:{HEX}", f"SHA256:{HEX}", f":{HEX}",
        "sha256:..", "sha256:%2e%2e", f"sha256:{HEX}\n", f"sha256:{HEX[:-1]}%0a",
        f"sha256::{HEX[1:]}", "sha256:" + "0" * 900, f"sha256%3A{HEX[:-1]}g", "sha256%3a",
        "sha256:" + "٣" * 64,
    ],
)  # fmt: skip
@pytest.mark.parametrize("resource", ["manifests", "blobs", "referrers"])
def test_bad_digests(digest: str, resource: str) -> None:
    expected: type[RegistryError] = DigestInvalid if digest.isascii() else NameInvalid
    with pytest.raises(expected) as caught:
        parse_target(f"/a/{resource}/{digest}".encode())
    assert len(str(caught.value.detail)) < 300


@pytest.mark.parametrize(
    "upload_id",
    [
        "x", "..", "%2e%2e", "_", "a" * 900,
        UPLOAD.upper(), UPLOAD + "0", UPLOAD[:-1], UPLOAD.replace("-", ""),
    ],
)  # fmt: skip
def test_ids_that_name_no_upload(upload_id: str) -> None:
    with pytest.raises(UploadUnknown):
        parse_target(f"/a/blobs/uploads/{upload_id}".encode())
    with pytest.raises(UploadUnknown):
        parse_upload_id(upload_id)


@settings(deadline=None)
@given(st.binary(max_size=1500))
def test_any_path_is_a_target_or_refused(path: bytes) -> None:
    try:
        target = parse_target(path)
    except RegistryError:
        return
    assert b"%" not in path.lower().replace(b"%3a", b"")
    assert b".." not in path
    if target.named:
        assert path.startswith(f"/{target.name}/".encode())


COMPONENT = st.from_regex(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", fullmatch=True)
NAME = st.lists(COMPONENT, min_size=1, max_size=5).map("/".join).filter(lambda n: len(n) <= 255)


@settings(deadline=None)
@given(NAME, st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True))
def test_every_name_and_tag_of_the_grammar_is_taken(name: str, tag: str) -> None:
    target = parse_target(f"/{name}/manifests/{tag}".encode("ascii"))
    assert (str(target.name), str(target.reference)) == (name, tag)


def refused(path: bytes) -> None:
    with pytest.raises(RegistryError):
        parse_target(path)


@pytest.mark.parametrize(
    ("begin", "repeated", "end"),
    [
        (b"/", b"a", b"/tags/list"),
        (b"/", b"a-", b"/tags/list"),
        (b"/", b"a/", b"tags/list"),
        (b"/a/manifests/", b"a", b""),
        (b"/a/blobs/sha256:", b"0", b""),
        (b"/a/blobs/uploads/", b"0", b""),
    ],
)
def test_long_paths_are_refused_at_once(begin: bytes, repeated: bytes, end: bytes) -> None:
    promptly(lambda: refused(begin + repeated * 200_000 + end))
    grows_linearly(lambda size: refused(begin + repeated * size + end), 200_000)


@pytest.mark.parametrize(
    "hostile", ["a" * 254 + "!", "a-" * 127, "a" + "-" * 200 + "!", "0__" * 80, "a." * 127]
)
def test_the_grammar_of_names_does_not_backtrack(hostile: str) -> None:
    def parse() -> None:
        with pytest.raises(NameInvalid):
            parse_target(f"/{hostile}/tags/list".encode())

    promptly(parse)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1", 1), ("007", 7), ("1000", 1000), ("1001", 1000), ("9" * 19, 1000)],
)
def test_page_size(text: str, value: int) -> None:
    assert Query(f"n={text}".encode()).page_size(limit=1000) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "+5", "%2B5", "1_0", "%D9%A3", "%207", "7%0A", "1e3", "0x10", "9" * 20, "x", "1.0"]
)  # fmt: skip
def test_bad_page_size(text: str) -> None:
    with pytest.raises(PaginationInvalid):
        Query(f"n={text}".encode()).page_size(limit=1000)


def test_no_page_size() -> None:
    assert Query(b"").page_size(limit=5) is None
    assert Query(b"last=x").page_size(limit=5) is None


@pytest.mark.parametrize("last", ["%00", "a%2Fb%2F", "%2F", "A/b/", "..", "a" * 10_000])
def test_bad_last(last: str) -> None:
    query = Query(f"last={last}".encode())
    with pytest.raises(PaginationInvalid):
        query.last_name()
    with pytest.raises(PaginationInvalid):
        query.last_tag()


def test_last() -> None:
    assert Query(b"last=a%2Fb").last_name() == "a/b"
    assert Query(b"last=v1.0").last_tag() == "v1.0"
    assert Query(b"last=").last_tag() == Query(b"").last_name() == ""


def test_the_digest_of_a_query() -> None:
    for raw in (f"digest={SHA256}", f"digest={quote(SHA256, safe='')}", f"digest={SHA256}&x=1"):
        assert Query(raw.encode()).digest() == Digest.parse(SHA256)
    assert Query(f"digest={SHA256}&digest={SHA256}".encode()).digest() == Digest.parse(SHA256)


@pytest.mark.parametrize(
    "raw", ["", "digest=", "digest=x", f"digest={SHA256}&digest={SHA512}", f"digest=md5:{HEX[:32]}"]
)
def test_a_query_without_one_digest(raw: str) -> None:
    with pytest.raises(DigestInvalid):
        Query(raw.encode()).digest()


def test_tags_of_a_query_come_in_order_and_once() -> None:
    assert Query(b"tag=b&tag=a&tag=b&x=1").tags() == [Tag("b"), Tag("a")]
    with pytest.raises(TagInvalid):
        Query(b"tag=a&tag=").tags()


@pytest.mark.parametrize("raw", [b"n=%ff", b"n=\xff", b"%c0%ae=1", b"&".join([b"a=1"] * 201)])
def test_queries_that_cannot_be_read(raw: bytes) -> None:
    with pytest.raises(QueryInvalid):
        Query(raw)


@pytest.mark.parametrize(
    ("text", "length", "start"),
    [
        (None, None, None),
        (None, 5, None),
        ("0-4", 5, 0),
        ("0-0", 1, 0),
        ("5-9", None, 5),
        ("000-004", 5, 0),
        ("10-9", 0, 10),
        (f"0-{2**63 - 1}", None, 0),
    ],
)
def test_chunks(text: str | None, length: int | None, start: int | None) -> None:
    assert parse_chunk(text, length) == start


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 5), ("a-b", 5), ("5", 5), ("-", 5), ("5-", 5), ("-5", 5), ("٣-٥", 3), ("1_0-1_9", 10),
        ("+1-5", 5), ("1e3-2e3", 5), ("0" * 20 + "-4", 5), ("0-" + "4" * 20, 5), ("bytes 0-4/5", 5),
        ("bytes=0-4", 5), ("0-4/5", 5), ("0-4,5-9", 10), (" 0-4", 5), ("0-4\n", 5),
        ("4-0", 5), ("9-4", None), ("0-4", 4), ("0-4", 6), ("0-4", 0), ("0--4", 5), ("0x0-0x4", 5),
    ],
)  # fmt: skip
def test_chunks_that_cannot_be(text: str, length: int | None) -> None:
    with pytest.raises(SizeInvalid):
        parse_chunk(text, length)


def test_expectations() -> None:
    assert parse_expectation(None, None) is ANYTHING
    assert parse_expectation(None, "*") is None
    assert parse_expectation(None, " * ") is None
    assert parse_expectation(f'"{SHA256}"', None) == Digest.parse(SHA256)
    assert parse_expectation(SHA256, None) == Digest.parse(SHA256)
    assert parse_expectation("*", None) is PRESENT
    assert parse_expectation(" * ", None) is PRESENT


@pytest.mark.parametrize(
    ("if_match", "if_none_match"),
    [
        ('"x"', None),
        ("", None),
        ('"*"', None),
        (f'"{SHA256}", "{SHA512}"', None),
        (f'*, "{SHA256}"', None),
        (None, f'"{SHA256}"'),
        (None, ""),
        (f'"{SHA256}"', '"x"'),
        (f'"{SHA256}"', "*"),
        ("*", "*"),
    ],
)
def test_expectations_that_cannot_hold(if_match: str | None, if_none_match: str | None) -> None:
    with pytest.raises(PreconditionFailed):
        parse_expectation(if_match, if_none_match)


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        (SHA256, [SHA256]),
        (f'"{SHA256}"', [SHA256]),
        (f'W/"{SHA256}"', [SHA256]),
        (f'"a", "{SHA256}"', ["a", SHA256]),
        (f"a,{SHA256}", ["a", SHA256]),
        ("*", ["*"]),
        ("", []),
    ],
)
def test_entity_tags(header: str, tags: list[str]) -> None:
    assert parse_etags(header) == tags


@pytest.mark.parametrize(
    "parse",
    [
        lambda text: parse_chunk(text, 1),
        lambda text: parse_etags(text),
        lambda text: parse_expectation(text, None),
        lambda text: Query(b"n=" + text.encode()).page_size(limit=9),
    ],
)
@pytest.mark.parametrize("repeated", ["0", "-", '"', "a,", "*", '"" '])
def test_long_headers_are_dealt_with_at_once(parse: Callable[[str], object], repeated: str) -> None:
    def deal(size: int) -> None:
        try:
            parse(repeated * size)
        except RegistryError:
            pass

    promptly(lambda: deal(100_000))
    grows_linearly(deal, 50_000)
