"""Answers that the server gives by itself, before or instead of the application.

Each is an OCI error envelope (distribution-spec, "Error Codes") and ends its connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Refusal:
    """`message` is a sentence for the client: what is wrong and what to do."""

    status: int
    message: str
    code: str = "UNKNOWN"


class Refused(Exception):
    """Raised where a request turns out to be unacceptable, to end the parsing of its connection."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refused(status: int, message: str) -> Refused:
    return Refused(Refusal(status, message))


HEADER_TIMEOUT: Final = Refusal(
    408, "The request's headers did not arrive in time; send the request again."
)
BODY_TIMEOUT: Final = Refusal(
    408, "The request's body stopped arriving; send the rest without such long pauses."
)
BAD_METHOD: Final = Refusal(
    405, f"The registry does not know this method; use one of {', '.join(METHODS)}.", "UNSUPPORTED"
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    503, "The registry has too many connections open; try again in a second."
)
_EXTRA_HEADERS: Final = {
    405: f"Allow: {', '.join(METHODS)}\r\n",
    503: "Retry-After: 1\r\n",
}


def bad_request(reason: str) -> Refusal:
    return Refusal(400, f"The request is not well-formed HTTP/1.1 ({reason}); correct the client.")


def mistake(request_id: str) -> Refusal:
    return Refusal(500, f"The registry made a mistake; its log has request id {request_id}.")


def envelope(refusal: Refusal) -> bytes:
    return json.dumps({"errors": [{"code": refusal.code, "message": refusal.message}]}).encode()


def render(refusal: Refusal, common: bytes, *, bodiless: bool = False) -> bytes:
    """The whole response; `common` are the header lines that every response has."""
    body = envelope(refusal)
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{_EXTRA_HEADERS.get(refusal.status, '')}Connection: close\r\n"
    )
    return head.encode() + common + b"\r\n" + (b"" if bodiless else body)
