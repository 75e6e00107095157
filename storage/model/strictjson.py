"""JSON as two readers cannot disagree on it (RFC 8259, and RFC 8785 section 3.1's restrictions).

Python's reader accepts NaN, repeated keys (the last wins) and lone surrogates. A manifest that says
two things to two readers is an attack, so all of those are refused here.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class NotStrictJson(ValueError):
    """The text says what is wrong with it, to be put after 'The manifest'."""


def loads(data: bytes) -> Any:
    """Raises NotStrictJson, whatever `data` is."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise NotStrictJson("begins with a byte order mark")
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if _SURROGATE_ESCAPE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise NotStrictJson(f"is not UTF-8 at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise NotStrictJson("holds half a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise NotStrictJson(
            f"is not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise NotStrictJson("is nested too deeply") from error
    except NotStrictJson:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise NotStrictJson("holds a number that is too long") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotStrictJson("has an object with the same key twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise NotStrictJson(f"holds {name}, which is not a JSON number")
