"""Which values are secrets, and what is shown in their place.

A name decides: whatever looks like a secret by its key is one, also in sections whose keys the
registry does not interpret.
"""

from __future__ import annotations

import re

MASK = "********"

_SECRET = re.compile(
    r"secret|passw|token|credential|access_?key|account_?key|private_?key\b|api_?key|license_?key"
    r"|authorization",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@")
_QUERY = re.compile(r"(?P<name>[?&;][^=&;#\s]+=)[^&;#\s]+")


def is_secret(path: tuple[str, ...]) -> bool:
    """Whether everything at and below the key `path` is to be masked.

    Headers that the registry sends as a client are secrets, for they carry credentials; those in
    `http.headers` go to every client and are not.
    """
    if path == ("auth", "token"):  # the mode of that name
        return False
    if _SECRET.search(path[-1]):
        return True
    return path[-1] == "headers" and path[0] in ("health", "notifications", "tracing")


def mask_urls(text: str) -> str:
    """`text` without the user, password and query values of URLs in it."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\g<name>{MASK}", _USERINFO.sub(rf"\g<scheme>{MASK}@", text))


def quote(value: object) -> str:
    """A wrong value as an error may show it: short, on one line, without credentials."""
    text = mask_urls(str(value))
    return repr(text if len(text) <= 80 else text[:77] + "...")
