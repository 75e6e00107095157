"""Which pulls nginx sends from the disk by itself, by `X-Accel-Redirect`.

The node answers with the place of the file and no body, and the bytes go from the disk through nginx to
the client. Whoever does not know that header would give its client an empty body. So it is told only
to a trusted proxy that says it knows it, in the words that other servers have for this,
`X-Sendfile-Type: X-Accel-Redirect`. The place is the operator's (http.accelredirect) and the layout's,
never the request's.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

from registry.forwarded import ORIGIN
from storage import layout
from storage.model.digest import Digest

HEADER: Final = "X-Accel-Redirect"
"""Of the answer: a path that nginx has an internal location for."""
ANNOUNCEMENT: Final = "x-sendfile-type"
"""Of the request: by which header the proxy wants to be told of a file."""

_RANGE = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})", re.ASCII)
"""What nginx and we read alike. It refuses other forms, which are to be ignored (RFC 9110 section 14.2)."""

_CONDITIONS: Final = ("if-match", "if-unmodified-since")
"""These it would judge by a file that it has no ETag of; we pass over them."""


class Acceleration:
    """`prefix` (http.accelredirect) ends with a slash, and is nginx's for the directory of all blobs."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def wanted(self, request: Request) -> bool:
        """Whether who sent this request will send what it asks for."""
        headers = request.headers
        return (
            request.scope[ORIGIN].trusted
            and headers.get(ANNOUNCEMENT, "").lower() == HEADER.lower()
            and _RANGE.fullmatch(headers.get("range", "bytes=0-")) is not None
            and not any(condition in headers for condition in _CONDITIONS)
        )

    def place(self, stored: Digest) -> str:
        """The value of HEADER for the content of this name."""
        return self._prefix + layout.blob(stored).removeprefix(f"{layout.BLOBS}/")
