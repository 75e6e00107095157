"""The compact form of a signed token (RFC 7515 section 3.1), read so that there is no second reading.

Only canonical base64url without padding, only UTF-8 JSON objects without repeated keys at any depth,
NaN or half surrogate pairs, and nothing longer than the limit. What a token claims is not looked at here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

LIMIT = 16_384
"""Characters of a token: as many as the server takes in a header."""

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_STANDARD = str.maketrans("-_", "+/")


class Malformed(ValueError):
    """The text says what is wrong, to be put after the name of what was read."""


@dataclass(frozen=True, slots=True)
class Compact:
    """A token taken apart; nothing in it has been verified."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any]
    signed: bytes
    signature: bytes


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Raises Malformed unless `text` is exactly what encode() makes of the result."""
    if not _SEGMENT.fullmatch(text):
        raise Malformed("is not base64url without padding")
    try:
        data = binascii.a2b_base64(text.translate(_STANDARD) + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise Malformed("is not base64url without padding") from error
    if encode(data) != text:
        raise Malformed("has stray bits at the end of its base64url")
    return data


def read(token: str) -> Compact:
    """Raises Malformed, whatever `token` is."""
    if len(token) > LIMIT:
        raise Malformed(f"is longer than {LIMIT} characters")
    segments = token.split(".", 3)
    if len(segments) != 3:
        raise Malformed("does not have three parts")
    header, payload, signature = segments
    return Compact(
        header=strict_object(decode(header)),
        payload=strict_object(decode(payload)),
        signed=f"{header}.{payload}".encode("ascii"),
        signature=decode(signature) if signature else b"",
    )


def write(header: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
    """What is to be signed."""
    return f"{encode(_dumps(header))}.{encode(_dumps(payload))}"


def strict_object(data: bytes) -> dict[str, Any]:
    """A JSON object that two readers understand alike. Raises Malformed, whatever `data` is."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        if _SURROGATE_ESCAPE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except Malformed:
        raise
    except UnicodeError as error:
        raise Malformed("is not UTF-8") from error
    except RecursionError as error:
        raise Malformed("is nested too deeply") from error
    except ValueError as error:
        raise Malformed("is not JSON") from error
    if not isinstance(value, dict):
        raise Malformed("is not a JSON object")
    return value


def _dumps(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Malformed("has an object with the same key twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"holds {name}, which is not a JSON number")
