"""The one table from what went wrong to what HTTP says, and the OCI error envelope."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from registry.parsing import NotATarget, QueryInvalid, QueryTooLong
from registry.responses import Unsatisfiable
from storage.model import errors

log = logging.getLogger("holdfast.errors")


class UnsupportedEncoding(errors.Unsupported):
    """The body is compressed; the registry never unpacks (415)."""


class TooManyTags(errors.ManifestInvalid):
    """More than one push sets (414, distribution-spec "Pushing Manifests")."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"One push sets at most {limit} tags. Set the others by another push.")


STATUS: Mapping[type[errors.RegistryError], int] = {
    errors.RegistryError: 500,
    errors.NameInvalid: 400,
    errors.NameUnknown: 404,
    errors.TagInvalid: 400,
    errors.DigestInvalid: 400,
    errors.SizeInvalid: 400,
    errors.BlobUnknown: 404,
    errors.ManifestUnknown: 404,
    errors.ManifestInvalid: 400,
    errors.ManifestTooLarge: 413,
    errors.ManifestBlobUnknown: 400,
    errors.UploadUnknown: 404,
    errors.UploadInvalid: 404,
    errors.RangeInvalid: 416,
    errors.PaginationInvalid: 400,
    errors.Unauthorized: 401,
    errors.Denied: 403,
    errors.PreconditionFailed: 412,
    errors.Unsupported: 405,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
    NotATarget: 404,
    QueryInvalid: 400,
    QueryTooLong: 414,
    TooManyTags: 414,
    UnsupportedEncoding: 415,
    Unsatisfiable: 416,
}


class MethodNotAllowed(errors.Unsupported):
    """The resource does not take the method, or not here; `allowed` are those that it takes (405)."""

    def __init__(self, message: str, allowed: Iterable[str]) -> None:
        super().__init__(message)
        self.allowed = sorted(allowed)


def status_of(error: errors.RegistryError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def envelope(code: str, message: str, detail: object = None) -> dict[str, object]:
    error: dict[str, object] = {"code": code, "message": message}
    if detail is not None:
        error["detail"] = detail
    return error


def respond(error: errors.RegistryError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an error of the domain, for any method: a HEAD's body is cut by the server."""
    if isinstance(error, errors.ManifestBlobUnknown):
        listed = [
            envelope(error.code, "This content is not in the repository.", {"digest": digest})
            for digest in error.missing[: error.LISTED]
        ]
        listed[0]["message"] = error.message
    else:
        listed = [envelope(error.code, error.message, error.detail)]
    return _json(listed, status_of(error), {**_extra(error), **(headers or {})})


def _json(
    listed: list[dict[str, object]], status: int, headers: Mapping[str, str] | None = None
) -> Response:
    content = json.dumps({"errors": listed}, separators=(",", ":")).encode("utf-8") + b"\n"
    return Response(content, status, headers, media_type="application/json")


def _extra(error: errors.RegistryError) -> dict[str, str]:
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": error.challenge}
    if isinstance(error, MethodNotAllowed):  # RFC 9110 section 15.5.6 demands it
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, errors.Unavailable | errors.TooManyRequests):
        return {"Retry-After": str(error.retry_after)}
    return {}


async def on_registry_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for the whole tree: it finds this one by type."""
    if not isinstance(error, errors.RegistryError):
        raise error
    record(request, error.code)
    if isinstance(error, errors.Unavailable):
        log.warning("%s: %s", type(error).__name__, error.__cause__ or error.message)
    return respond(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Paths outside the API, and methods that a path outside it does not have."""
    if not isinstance(error, HTTPException):
        raise error
    code = "UNSUPPORTED" if error.status_code == 405 else "UNKNOWN"
    record(request, code)
    sentence = (
        "Nothing is at this path. The registry's API is below /v2/."
        if error.status_code == 404
        else f"The request was refused: {error.detail}."
    )
    return _json([envelope(code, sentence)], error.status_code, error.headers)


async def on_client_gone(request: Request, error: Exception) -> Response:
    """Nobody may be there to read it; if the client only fell silent, it says what to do."""
    del error
    record(request, "UNKNOWN")
    sentence = "The request's body did not arrive in time. Send the request again."
    return _json([envelope("UNKNOWN", sentence)], 408, {"Connection": "close"})


def record(request: Request, code: str) -> None:
    """Note the code for the access log."""
    request.scope["holdfast"].error_code = code
