"""The table of errors, and the envelope."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from registry.errors import (
    STATUS,
    MethodNotAllowed,
    TooManyTags,
    UnsupportedEncoding,
    on_registry_error,
    respond,
    status_of,
)
from registry.parsing import NotATarget, QueryInvalid, QueryTooLong
from registry.responses import Unsatisfiable
from storage.model import errors
from storage.model.errors import RegistryError

EXAMPLES: list[tuple[RegistryError, int, str]] = [
    (RegistryError("Bad."), 500, "UNKNOWN"),
    (errors.NameInvalid("Bad."), 400, "NAME_INVALID"),
    (errors.NameUnknown("Bad."), 404, "NAME_UNKNOWN"),
    (errors.TagInvalid("Bad."), 400, "TAG_INVALID"),
    (errors.DigestInvalid("Bad."), 400, "DIGEST_INVALID"),
    (errors.SizeInvalid("Bad."), 400, "SIZE_INVALID"),
    (errors.BlobUnknown("Bad."), 404, "BLOB_UNKNOWN"),
    (errors.ManifestUnknown("Bad."), 404, "MANIFEST_UNKNOWN"),
    (errors.ManifestInvalid("Bad."), 400, "MANIFEST_INVALID"),
    (errors.ManifestTooLarge("Bad."), 413, "MANIFEST_INVALID"),
    (errors.ManifestBlobUnknown(["sha256:0"]), 400, "MANIFEST_BLOB_UNKNOWN"),
    (errors.UploadUnknown("Bad."), 404, "BLOB_UPLOAD_UNKNOWN"),
    (errors.UploadInvalid("Bad."), 404, "BLOB_UPLOAD_INVALID"),
    (errors.RangeInvalid("Bad.", offset=5), 416, "RANGE_INVALID"),
    (errors.PaginationInvalid("Bad."), 400, "PAGINATION_NUMBER_INVALID"),
    (errors.Unauthorized("Bad.", challenge="Basic"), 401, "UNAUTHORIZED"),
    (errors.Denied("Bad."), 403, "DENIED"),
    (errors.PreconditionFailed("Bad.", {}), 412, "PRECONDITION_FAILED"),
    (errors.Unsupported("Bad."), 405, "UNSUPPORTED"),
    (errors.TooManyRequests("Bad.", retry_after=3), 429, "TOOMANYREQUESTS"),
    (errors.Unavailable("Bad."), 503, "UNAVAILABLE"),
    (errors.StorageFull(), 503, "UNAVAILABLE"),
    (errors.Doomed(), 503, "UNAVAILABLE"),
    (UnsupportedEncoding("Bad."), 415, "UNSUPPORTED"),
    (MethodNotAllowed("Bad.", ["PUT", "GET"]), 405, "UNSUPPORTED"),
    (NotATarget("Bad."), 404, "NAME_UNKNOWN"),
    (QueryInvalid("Bad."), 400, "UNSUPPORTED"),
    (QueryTooLong("Bad."), 414, "UNSUPPORTED"),
    (TooManyTags(5), 414, "MANIFEST_INVALID"),
    (Unsatisfiable(5), 416, "RANGE_INVALID"),
]


def every_kind(kind: type[RegistryError] = RegistryError) -> Iterator[type[RegistryError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from every_kind(child)


def test_every_error_has_an_example_here() -> None:
    assert {type(error) for error, _, _ in EXAMPLES} == set(every_kind())


def test_the_table_names_every_error_or_its_parent() -> None:
    for kind in every_kind():
        assert any(parent in STATUS for parent in kind.__mro__[:-3]), kind


@pytest.mark.parametrize(("error", "status", "code"), EXAMPLES)
def test_status_and_envelope(error: RegistryError, status: int, code: str) -> None:
    assert status_of(error) == status
    response = respond(error)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    content = bytes(response.body)
    assert content.endswith(b"}\n")
    (first,) = json.loads(content)["errors"]
    assert first["code"] == code
    assert first["message"].endswith(".")
    assert code.replace("_", "").isupper()


def test_detail_is_left_out_where_there_is_none() -> None:
    (bare,) = json.loads(bytes(respond(errors.Denied("No.")).body))["errors"]
    assert bare == {"code": "DENIED", "message": "No."}
    (full,) = json.loads(bytes(respond(errors.Denied("No.", {"a": [1]})).body))["errors"]
    assert full == {"code": "DENIED", "message": "No.", "detail": {"a": [1]}}


def test_every_missing_digest_gets_an_entry_and_the_first_message_names_them_all() -> None:
    missing = [f"sha256:{number:064}" for number in range(3)]
    listed = json.loads(bytes(respond(errors.ManifestBlobUnknown(missing)).body))["errors"]
    assert [entry["detail"] for entry in listed] == [{"digest": digest} for digest in missing]
    assert all(digest in listed[0]["message"] for digest in missing)
    assert {entry["code"] for entry in listed} == {"MANIFEST_BLOB_UNKNOWN"}


def test_of_very_many_missing_digests_the_first_are_listed_and_the_rest_counted() -> None:
    missing = [f"sha256:{number:064}" for number in range(40_000)]
    error = errors.ManifestBlobUnknown(missing)
    content = bytes(respond(error).body)
    listed = json.loads(content)["errors"]
    assert [entry["detail"]["digest"] for entry in listed] == missing[:100]
    assert f"{missing[99]}, and 39900 more. Push it first" in listed[0]["message"]
    assert missing[100] not in content.decode()
    assert len(content) < 64 * 1024
    assert error.missing == tuple(missing)
    assert "more" not in errors.ManifestBlobUnknown(missing[:100]).message


def test_headers_that_belong_to_an_error() -> None:
    assert respond(errors.Unavailable("No.", retry_after=7)).headers["retry-after"] == "7"
    assert respond(errors.TooManyRequests("No.", retry_after=3)).headers["retry-after"] == "3"
    challenge = respond(errors.Unauthorized("No.", challenge='Bearer realm="x"'))
    assert challenge.headers["www-authenticate"] == 'Bearer realm="x"'
    assert respond(MethodNotAllowed("No.", ["PUT", "GET"])).headers["allow"] == "GET, PUT"
    assert respond(errors.Denied("No."), {"X-Own": "1"}).headers["x-own"] == "1"


def test_what_is_no_error_of_the_domain_is_not_swallowed() -> None:
    with pytest.raises(KeyError):
        asyncio.run(on_registry_error(None, KeyError("x")))  # type: ignore[arg-type]  # not used
