"""Short statements under an HMAC: credentials that need no database, because they say what they are.

    prefix || base64url( id of the secret (4 bytes) || HMAC-SHA256 (32 bytes) || JSON )

Every node that has the secret can verify one. The first of several secrets seals and all open, so a
secret is replaced by putting a new one before it and taking the old one away when what it sealed has
expired. The keys that sign access tokens have no part in it: they may rotate as often as they like.

The secret itself is never used as a key: each purpose derives its own, so that what was sealed for one
is nothing to another.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from auth.jose import Malformed, decode, encode, strict_object

LIMIT: Final = 8192
"""Characters, the prefix included."""

_ID = 4
_MAC = 32


class NotSealed(Exception):
    """The text was not sealed here, or has been changed. Says nothing of which."""


class Seal:
    def __init__(self, secrets: Sequence[bytes], purpose: str, prefix: str) -> None:
        """`prefix` begins every text, so that a leaked one is recognised. Raises ValueError."""
        if not secrets or any(len(secret) < 16 for secret in secrets):
            raise ValueError("A secret for sealing credentials needs at least 16 bytes.")
        context = b"holdfast sealed credentials v1\0" + purpose.encode()
        keys = [hmac.new(secret, context, hashlib.sha256).digest() for secret in secrets]
        self._keys = {_key_id(key): key for key in reversed(keys)}
        self._first = keys[0]
        self._prefix = prefix

    def seal(self, content: Mapping[str, Any]) -> str:
        """Raises ValueError if it would be longer than can be opened."""
        message = json.dumps(content, separators=(",", ":")).encode("ascii")
        raw = _key_id(self._first) + _mac(self._first, message) + message
        text = self._prefix + encode(raw)
        if len(text) > LIMIT:
            raise ValueError("There is too much in it; name fewer or shorter scopes.")
        return text

    def open(self, text: str) -> dict[str, Any]:
        """Raises NotSealed."""
        if len(text) > LIMIT or not text.startswith(self._prefix) or not text.isascii():
            raise NotSealed
        try:
            raw = decode(text[len(self._prefix) :])
        except Malformed:
            raise NotSealed from None
        key_id, given, message = raw[:_ID], raw[_ID : _ID + _MAC], raw[_ID + _MAC :]
        key = self._keys.get(key_id)
        if key is None or not hmac.compare_digest(given, _mac(key, message)):
            raise NotSealed
        try:
            return strict_object(message)
        except Malformed:
            raise NotSealed from None


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"id\0" + key).digest()[:_ID]


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
