"""Takes secrets out of what is about to be logged, and makes any value one that JSON can hold.

Two nets, because neither is enough alone: a field whose *name* says that it holds a secret loses its
value whatever it looks like, and every text is searched for what secrets look like. When in doubt
text is taken out: a line that says too little costs less than one that says too much. Every pattern
is bounded, so that hostile text costs time in proportion to its length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

REDACTED: Final = "[redacted]"
LIMIT: Final = 16 * 1024  # characters of one text in one line

_VALUE = r"""(?:b?"(?:[^"\\]|\\.)*"?|b?'(?:[^'\\]|\\.)*'?|[^\s&;,"'<>()\[\]{}]+)"""
_STRONG = (
    r"(?:pass(?:word|wd|phrase)|secret(?:[_-]?access)?(?:[_-]?key)?|access[_-]?key(?:[_-]?id)?)"
)
_WEAK = (
    r"(?:_state|%5[fF]state|token|signature|(?<![A-Za-z0-9])sig|credentials?|api[_-]?key"
    r"|(?<![A-Za-z0-9])auth|private[_-]?key)"
)

_RULES: Final = tuple(
    (needles, re.compile(pattern, flags), replacement)
    for needles, pattern, flags, replacement in (
        # PEM, also cut short.
        (
            ("private key-----",),
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)",
            re.DOTALL,
            REDACTED,
        ),
        # A header that carries credentials, as `name: value`, as JSON or as a tuple of bytes.
        (
            ("authorization", "cookie"),
            r"""((?:authorization|cookie)b?["']?\s{0,4}[:=,]\s{0,4})"""
            r"""(?:b?"[^"\r\n]*"?|b?'[^'\r\n]*'?|[^\r\n]+)""",
            re.IGNORECASE,
            rf"\1{REDACTED}",
        ),
        # The credentials without the header's name; a challenge (`Bearer realm=`) is no secret.
        (
            ("bearer", "basic"),
            r"\b(bearer|basic)((?:\s|%20){1,4})(?!(?:realm|service|scope|error)=)"
            r"(?!(?:auth|authentication|authorization|challenge|credentials|scheme|tokens?)\b)"
            r"[^\s\"',;]+",
            re.IGNORECASE,
            rf"\1\2{REDACTED}",
        ),
        # A JWT, wherever it stands.
        (
            ("eyj",),
            r"(?<![A-Za-z0-9_-])((?:%[0-9A-Fa-f]{2})?)eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)+",
            0,
            rf"\1{REDACTED}",
        ),
        # The user information of a URL, also when a careless password holds "/" or "@".
        (
            ("://",),
            r"(?<=://)(?:[^/\s?#\"'<>@]{0,256}:[^\s\"'<>]{0,256}|[^/\s?#\"'<>]{0,256})@",
            0,
            f"{REDACTED}@",
        ),
        # name=value and name: value, in a query, a form, JSON, YAML or a repr.
        (
            ("pass", "secret", "access"),
            rf"""({_STRONG}["']?\s{{0,4}}(?:[=:]|%3[dD])\s{{0,4}}){_VALUE}""",
            re.IGNORECASE,
            rf"\1{REDACTED}",
        ),
        (
            ("state", "token", "sig", "credential", "key", "auth"),
            rf"""({_WEAK}(?:(?:=|%3[dD])|["']\s{{0,4}}(?:[:=]|,(?=\s{{0,4}}b?["']))\s{{0,4}}))"""
            rf"{_VALUE}",
            re.IGNORECASE,
            rf"\1{REDACTED}",
        ),
    )
)
"""Each rule is tried only if one of its needles is in the lower-cased text: most texts hold none."""

_SECRET_NAME: Final = re.compile(
    r".{0,64}(?:authorization|cookie|pass(?:word|wd|phrase)|secret|token|signature|credentials?"
    r"|_state|(?:secret|access|api|private)[_-]?(?:access[_-]?)?key)",
    re.IGNORECASE | re.DOTALL,
)
_CACHED_LENGTH: Final = 256


def scrub(text: str) -> str:
    """`text` without its secrets, and of bounded length."""
    if len(text) <= _CACHED_LENGTH:
        if text.isalnum() and text.isascii():
            return text  # every rule wants some sign beside letters and digits
        return _scrub_short(text)
    cut = len(text) - LIMIT
    # A secret that is cut in two is seen whole first.
    text = without_secrets(text[: 4 * LIMIT])
    if cut <= 0 or len(text) <= LIMIT:
        return text
    return f"{text[:LIMIT]}... ({cut} characters left out)"


def clean(name: str, value: object, depth: int = 4) -> object:
    """A field's value as JSON can hold it, without secrets. Never raises."""
    if isinstance(value, str):
        return REDACTED if _names_a_secret(name) else scrub(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if _names_a_secret(name):
            return REDACTED
        return int(value) if -(2**63) <= value < 2**64 else scrub(hex(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if _names_a_secret(name):
        return REDACTED
    if isinstance(value, Mapping):
        if depth <= 0:
            return "{...}"
        return {
            scrub(as_text(key)): clean(as_text(key), item, depth - 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        if depth <= 0:
            return "[...]"
        return [clean("", item, depth - 1) for item in value]
    return scrub(as_text(value))


def as_text(value: object) -> str:
    """`value` as text; bytes as Latin-1, so that nothing fails and nothing hides."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[: 4 * LIMIT]).decode("latin-1")
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a log line must not fail for what it was given
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def without_secrets(text: str) -> str:
    """`text` without its secrets, however long."""
    lowered = text.lower()
    for needles, pattern, replacement in _RULES:
        for needle in needles:
            if needle in lowered:
                text = pattern.sub(replacement, text)
                break
    return text


_scrub_short = lru_cache(maxsize=1024)(without_secrets)  # clients, agents and names repeat


@lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name[-128:]) is not None
