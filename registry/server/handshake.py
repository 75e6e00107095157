"""A refused handshake that says why.

The event loop closes a connection whose handshake failed without sending what OpenSSL would still say:
the alert, by which a client knows that it lacks a certificate or speaks too old a version. So a failure
is held back once, as if more had to be read, which makes the loop send what there is. Then the client
closes; whatever else it does, the failure comes out, or the handshake's time is up.
"""

from __future__ import annotations

import json
import logging
import ssl
from typing import Final

logger = logging.getLogger("holdfast.server")

_BODY: Final = json.dumps(
    {
        "errors": [
            {
                "code": "UNSUPPORTED",
                "message": "This port speaks TLS only; use https instead of http in the address.",
            }
        ]
    }
).encode()
_PLAIN: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class Handshake(ssl.SSLObject):
    """Made by a context as its `sslobject_class`; `outgoing` is to be set before the handshake."""

    outgoing: ssl.MemoryBIO
    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as failure:
            if failure.reason == "HTTP_REQUEST":
                self.outgoing.read()  # an alert is nothing that this client could read
                self.outgoing.write(_PLAIN)
            if not self.outgoing.pending:
                raise
            logger.info("refused a TLS handshake: %s", _reason(failure))
            self._failure = failure
            raise ssl.SSLWantReadError from None


def _reason(failure: ssl.SSLError) -> str:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"the client's certificate: {failure.verify_message}"
    return (failure.reason or str(failure)).lower().replace("_", " ")
