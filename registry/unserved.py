"""Requests that never reached the application, in the access log and the metrics all the same.

A client whose requests are malformed, too large or too slow is refused by the server itself. The one
who looks for the reason looks here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final, Protocol

from registry.middleware import visible_path
from registry.telemetry.logs import log_request
from registry.telemetry.metrics import Metrics

ROUTE: Final = "unserved"

_access = logging.getLogger("holdfast.access")


class Unserved(Protocol):
    """As the server tells of one."""

    @property
    def status(self) -> int: ...

    @property
    def code(self) -> str: ...

    @property
    def client(self) -> str: ...

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> bytes: ...

    @property
    def sent(self) -> int: ...


def observer(metrics: Metrics, *, access_log: bool) -> Callable[[Unserved], None]:
    """For `Lifecycle.on_unserved`. The lines have the fields of every access line, but no duration.

    The client is the peer: a proxy's word for another is in headers that were not read.
    """

    def observe(request: Unserved) -> None:
        metrics.observe(
            route=ROUTE,
            method=request.method,
            status=request.status,
            seconds=0.0,
            received=0,
            sent=request.sent,
        )
        if not access_log or not _access.isEnabledFor(logging.INFO):
            return
        path, _, query = request.target.partition(b"?")
        fields: dict[str, object] = {
            "request_id": f"{random.getrandbits(64):016x}",
            "method": request.method,
            "path": visible_path({"raw_path": path, "query_string": query}),
            "route": ROUTE,
            "repository": "",
            "user": "",
            "status": request.status,
            "bytes_in": 0,
            "bytes_out": request.sent,
            "client": request.client,
            "user_agent": "",
            "error_code": request.code,
        }
        log_request(_access, logging.INFO, fields)

    return observe
