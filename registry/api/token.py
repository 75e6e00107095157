"""The token server that is built in: `/auth/token` and `/auth/jwks`, outside the registry's API.

The Docker token protocol: GET with Basic credentials, or none; POST with a form of OAuth2 (RFC 6749).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from auth.builtin import OAuthRequest, RequestInvalid, TokenRequest, TokenServer
from auth.jwk import KeysUnavailable
from auth.keys import KeyRing
from auth.model import Asking, Refused, Throttled, Undecided
from registry.errors import on_registry_error
from registry.middleware import record_of
from storage.model import errors

FORM_LIMIT: Final = 64 * 1024
"""Bytes; an identity token is the longest that a form carries."""
FIELDS_LIMIT: Final = 50

_FORM: Final = "application/x-www-form-urlencoded"
_HEADERS: Final = {"Cache-Control": "no-store"}

Ask = Callable[[Request], Asking]


def token_routes(
    server: TokenServer, keys: KeyRing, ask: Ask, *, token_path: str, jwks_path: str
) -> list[Route]:
    """`ask` says who sends a request."""

    async def give(request: Request) -> Response:
        record = record_of(request.scope)
        record.route = "token"
        post = request.method == "POST"
        try:
            asking = ask(request)
            issued = await (
                server.post(await _form(request), asking)
                if post
                else server.get(_query(request), asking)
            )
        except RequestInvalid as invalid:
            record.error_code = invalid.code
            return _invalid(invalid)
        except Refused as refused:
            error: errors.RegistryError = errors.Unauthorized(
                refused.reason, challenge=refused.challenge
            )
        except Throttled as throttled:
            error = errors.TooManyRequests(throttled.reason, retry_after=throttled.retry_after)
        except Undecided as undecided:
            error = errors.Unavailable(undecided.reason)
        else:
            record.user = issued.identity.name
            return JSONResponse(issued.rendered(oauth=post), headers=_HEADERS)
        return await on_registry_error(request, error)

    async def show_keys(request: Request) -> Response:
        record_of(request.scope).route = "jwks"
        try:
            content = await asyncio.to_thread(keys.jwks)
        except KeysUnavailable as unavailable:
            return await on_registry_error(request, errors.Unavailable(unavailable.reason))
        return JSONResponse(content, headers={"Cache-Control": "public, max-age=60"})

    return [
        Route(token_path, give, methods=["GET", "POST"]),
        Route(jwks_path, show_keys, methods=["GET"]),
    ]


def _query(request: Request) -> TokenRequest:
    fields = _parsed(request.scope["query_string"])
    return TokenRequest(
        service=_one(fields, "service"),
        scopes=fields.get("scope", []),
        offline=_one(fields, "offline_token").lower() in {"true", "1"},
    )


async def _form(request: Request) -> OAuthRequest:
    """Raises RequestInvalid."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise RequestInvalid(f"A POST has its fields in the body, as {_FORM}.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_LIMIT:
            raise RequestInvalid(f"The form is longer than {FORM_LIMIT} bytes.")
    fields = _parsed(bytes(body))
    return OAuthRequest(
        grant_type=_one(fields, "grant_type"),
        service=_one(fields, "service"),
        scope=" ".join(fields.get("scope", [])),
        username=_one(fields, "username"),
        password=_one(fields, "password"),
        refresh_token=_one(fields, "refresh_token"),
        access_type=_one(fields, "access_type"),
    )


def _parsed(text: bytes) -> dict[str, list[str]]:
    """Raises RequestInvalid."""
    try:
        return parse_qs(
            text.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_LIMIT,
        )
    except ValueError:
        raise RequestInvalid("The fields of the request cannot be read.") from None


def _one(fields: Mapping[str, list[str]], name: str) -> str:
    """Raises RequestInvalid if it is given twice, for then nobody knows which one counts."""
    values = fields.get(name, [""])
    if len(values) > 1:
        raise RequestInvalid(f"{name} is given {len(values)} times.")
    return values[0]


def _invalid(invalid: RequestInvalid) -> Response:
    """Both as OAuth2 has it (RFC 6749 section 5.2) and as the registry's clients print it."""
    content: dict[str, Any] = {
        "error": invalid.code,
        "error_description": invalid.reason,
        "errors": [{"code": "UNSUPPORTED", "message": invalid.reason}],
    }
    return Response(
        json.dumps(content).encode("utf-8") + b"\n",
        400,
        _HEADERS,
        media_type="application/json",
    )
