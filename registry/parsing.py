"""Request text to domain values; nowhere else.

A target is parsed once, from the bytes of the path as they were sent, and the same object decides the
route, the access that is needed and what the handler does: nothing can mean one thing to a rule and
another to the storage. Percent-encoding is never resolved, with one exception: `%3A` for the colon of a
digest, which some clients send. So `%2f` is no slash and `%2e%2e` goes nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl

from storage.driver import ANYTHING
from storage.expectation import PRESENT, Expectation
from storage.model.digest import Digest
from storage.model.errors import (
    DigestInvalid,
    NameInvalid,
    PaginationInvalid,
    PreconditionFailed,
    RegistryError,
    SizeInvalid,
    TagInvalid,
)
from storage.model.reference import RepositoryName, Tag
from storage.upload_session import unknown as unknown_upload


class Kind(Enum):
    """The resources of the API, by the names that logs and metrics use."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


class NotATarget(RegistryError):
    """The path is none of the API's."""

    code = "NAME_UNKNOWN"


class QueryInvalid(RegistryError):
    """What stands behind `?` cannot be read."""

    code = "UNSUPPORTED"


class QueryTooLong(QueryInvalid):
    """It has more fields than anybody needs (414)."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. Fields that its kind does not have raise if they are asked for."""

    kind: Kind
    _name: RepositoryName | None = None
    _reference: Digest | Tag | None = None
    _upload_id: str = ""

    @property
    def named(self) -> bool:
        """Whether the target is in a repository."""
        return self._name is not None

    @property
    def name(self) -> RepositoryName:
        if self._name is None:
            raise AttributeError(f"a {self.kind.value} target has no repository")
        return self._name

    @property
    def reference(self) -> Digest | Tag:
        if self._reference is None:
            raise AttributeError(f"a {self.kind.value} target has no reference")
        return self._reference

    @property
    def digest(self) -> Digest:
        if not isinstance(self._reference, Digest):
            raise AttributeError(f"a {self.kind.value} target has no digest")
        return self._reference

    @property
    def upload_id(self) -> str:
        return self._upload_id


_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_CHUNK = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s,"]+)', re.ASCII)
PATH_LIMIT = 1024
FIELD_LIMIT = 200


def parse_target(path: bytes) -> Target:
    """The target of `path`, which begins behind `/v2`.

    Raises NotATarget, NameInvalid, TagInvalid, DigestInvalid or UploadUnknown.
    """
    if path in {b"", b"/"}:
        return Target(Kind.BASE)
    if path == b"/_catalog":
        return Target(Kind.CATALOG)
    if len(path) > PATH_LIMIT:
        raise NameInvalid("The path is longer than any name, tag or digest can make it.")
    try:
        _, *parts = path.decode("ascii").split("/")
    except UnicodeDecodeError:
        raise NameInvalid("The path has characters that no name, tag or digest has.") from None

    match parts:
        case [*name, "blobs", "uploads", ""] | [*name, "blobs", "uploads"] if name:
            return Target(Kind.UPLOADS, _name(name))
        case [*name, "blobs", "uploads", upload_id] if name:
            return Target(Kind.UPLOAD, _name(name), None, parse_upload_id(upload_id))
        case [*name, "tags", "list"] if name:
            return Target(Kind.TAGS, _name(name))
        case [*name, "manifests", reference] if name:
            return Target(Kind.MANIFEST, _name(name), _reference(reference))
        case [*name, "blobs", digest] if name:
            return Target(Kind.BLOB, _name(name), _digest(digest))
        case [*name, "referrers", digest] if name:
            return Target(Kind.REFERRERS, _name(name), _digest(digest))
    raise NotATarget(
        "This path is none of the registry's. The API is described in the OCI distribution-spec."
    )


def _name(parts: Sequence[str]) -> RepositoryName:
    return RepositoryName("/".join(parts))


def _digest(text: str) -> Digest:
    return Digest.parse(text.replace("%3A", ":").replace("%3a", ":"))


def _reference(text: str) -> Digest | Tag:
    return _digest(text) if ":" in text or "%3" in text else Tag(text)


def parse_upload_id(text: str) -> str:
    """Raises UploadUnknown: an id that this registry never gave out names no upload."""
    if not _UUID.fullmatch(text):
        raise unknown_upload()
    return text


class Query:
    """The parameters behind `?`, each taken by the parser of its type."""

    def __init__(self, raw: bytes) -> None:
        self._pairs: list[tuple[str, str]] = []
        if raw.count(b"&") >= FIELD_LIMIT:
            raise QueryTooLong(f"The query has more than {FIELD_LIMIT} fields. Send fewer at once.")
        if raw:
            try:
                self._pairs = parse_qsl(
                    raw.decode("ascii"), keep_blank_values=True, errors="strict"
                )
            except ValueError:
                raise QueryInvalid("The query is not URL-encoded UTF-8.") from None

    def all(self, key: str) -> list[str]:
        return [value for name, value in self._pairs if name == key]

    def get(self, key: str) -> str | None:
        return next((value for name, value in self._pairs if name == key), None)

    def digest(self) -> Digest:
        """The `digest` that closes an upload. Raises DigestInvalid unless there is exactly one."""
        values = set(self.all("digest"))
        if len(values) != 1:
            raise DigestInvalid(
                "An upload is finished with exactly one digest parameter: ?digest=sha256:..."
            )
        return Digest.parse(values.pop())

    def tags(self) -> list[Tag]:
        """The `tag` parameters of a manifest that is pushed by digest (end-7b)."""
        return list(dict.fromkeys(Tag(value) for value in self.all("tag")))

    def page_size(self, *, limit: int) -> int | None:
        """`n`, cut to `limit`; None if it is not there. Raises PaginationInvalid."""
        text = self.get("n")
        if text is None:
            return None
        if not _NUMBER.fullmatch(text):
            raise PaginationInvalid(
                "The number of results, n, is a whole number from 0.", {"n": text[:40]}
            )
        return min(int(text), limit)

    def last_tag(self) -> str:
        text = self.get("last")
        try:
            return "" if not text else Tag(text).value
        except TagInvalid:
            raise PaginationInvalid(
                "The parameter last is the last tag of the page before."
            ) from None

    def last_name(self) -> str:
        text = self.get("last")
        try:
            return "" if not text else RepositoryName(text).value
        except NameInvalid:
            raise PaginationInvalid(
                "The parameter last is the last repository of the page before."
            ) from None


def parse_chunk(content_range: str | None, length: int | None) -> int | None:
    """Where a chunk begins, by its Content-Range; None if it does not say.

    The form is that of the distribution-spec, `<start>-<end>`, both included. Raises SizeInvalid.
    """
    if content_range is None:
        return None
    match = _CHUNK.fullmatch(content_range)
    if match is None:
        raise SizeInvalid(
            "The Content-Range of a chunk is '<start>-<end>', both byte offsets included."
        )
    start, end = int(match[1]), int(match[2])
    if end < start and not (length == 0 and end + 1 == start):
        raise SizeInvalid("The Content-Range of the chunk ends before it begins.")
    if length is not None and length != end - start + 1:
        raise SizeInvalid(
            f"The Content-Range is of {end - start + 1} bytes, but the Content-Length is {length}."
        )
    return start


def parse_expectation(if_match: str | None, if_none_match: str | None) -> Expectation:
    """What a compare-and-set PUT of a manifest requires (RFC 9110 section 13.1).

    Raises PreconditionFailed for what can never hold.
    """
    if if_none_match is not None:
        if if_match is not None:
            raise PreconditionFailed(
                "A push has If-Match or If-None-Match; no tag could satisfy both. Send one of them.",
                {},
            )
        if if_none_match.strip() != "*":
            raise PreconditionFailed(
                "On a push, If-None-Match can only be '*': the tag must not exist yet.", {}
            )
        return None
    if if_match is None:
        return ANYTHING
    if if_match.strip() == "*":
        return PRESENT
    try:
        (etag,) = parse_etags(if_match)
        return Digest.parse(etag)
    except (ValueError, DigestInvalid):
        raise PreconditionFailed(
            'On a push, If-Match is "*" or one digest in quotes, as ETag gave it: "sha256:...".', {}
        ) from None


def parse_etags(header: str) -> list[str]:
    """Entity tags, quoted or, as Distribution takes them, bare."""
    return [quoted or bare for quoted, bare in _ETAG.findall(header[:4096])]
