"""What surrounds every request: its id, its origin, the headers of every answer, metrics, one log line.

Plain ASGI, outermost, around the whole application, so that also what the framework answers by itself
is counted and logged. It changes no message but the head of the response, and holds nothing back.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from registry.forwarded import ORIGIN, Origin, TrustedProxies
from registry.streaming import ClientGone
from registry.telemetry.logs import log_request
from registry.telemetry.metrics import Metrics

RECORD: Final = "holdfast"
"""The key of the ASGI scope that holds the RequestRecord."""

QUIET_ROUTES: Final = frozenset(("healthz", "readyz", "metrics"))
"""Asked every few seconds by machines: their access lines are debug lines."""

CLIENT_GONE: Final = 499

_access = logging.getLogger("holdfast.access")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PARAMETER = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
_SHOWN: Final = frozenset(
    ("digest", "mount", "from", "n", "last", "tag", "artifactType", "digest-algorithm", "ns")
)
_EVERYWHERE: Final = (
    (b"docker-distribution-api-version", b"registry/2.0"),
    (b"x-content-type-options", b"nosniff"),
)
_FRAMING: Final = frozenset(
    (b"connection", b"content-length", b"transfer-encoding", b"trailer", b"upgrade")
)
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEADER_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


@dataclass(slots=True)
class RequestRecord:
    """What is known of a request; handlers fill in what they learn, the access line tells it.

    `route` is a name from a small fixed set, never a part of the request: it labels metrics.
    """

    route: str = "other"
    repository: str = ""
    user: str = ""
    error_code: str = ""
    client: str = ""
    scheme: str = "http"
    request_id: str = ""
    handed_over: int = 0
    """Bytes that the proxy sends in place of this answer's body."""
    trace_id: str = ""


def record_of(scope: Scope) -> RequestRecord:
    """The request's record; one that nobody reads if the middleware is not there."""
    record = scope.get(RECORD)
    return record if isinstance(record, RequestRecord) else RequestRecord()


class Observe:
    """The middleware.

    `headers` (http.headers) go onto every response that does not set them itself. Raises ValueError
    with a sentence for one that would break responses.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        access_log: bool,
        headers: Sequence[tuple[bytes, bytes]],
        proxies: TrustedProxies,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log
        self._headers = _always(headers)
        self._names = frozenset(name for name, _ in self._headers)
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            try:
                await self._app(scope, receive, send)
            finally:
                self._metrics.flush()  # the application has ended: nothing more will be counted
            return
        begun = perf_counter()
        origin = self._proxies.client_of(scope)
        request_id = _request_id(scope, origin)
        record = RequestRecord(client=origin.client, scheme=origin.scheme, request_id=request_id)
        scope[RECORD] = record
        scope[ORIGIN] = origin
        scope.setdefault("state", {})["request_id"] = request_id  # for what the server says itself
        body = (scope.get("extensions") or {}).get("holdfast.body")
        watch = _Watch(self, receive, send, request_id, counts=scope["method"] != "HEAD")
        failure: BaseException | None = None
        self._metrics.requests_in_progress.inc()
        context = bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive if body is not None else watch.receive, watch.send)
        except BaseException as error:
            failure = error
            raise
        finally:
            received = watch.received if body is None else int(body.received)
            self._metrics.requests_in_progress.dec()
            self._finish(scope, record, watch, failure, received, perf_counter() - begun)
            reset_contextvars(**context)

    def head(self, message: Message, request_id: str) -> Message:
        """The head of a response with the headers that all have. Leaves `message` as it is."""
        given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
        ours = self._headers
        if not self._names.isdisjoint([name for name, _ in given]):
            names = {name for name, _ in given}
            ours = tuple(pair for pair in ours if pair[0] not in names)
        identity = (b"x-request-id", request_id.encode("ascii"))
        return {**message, "headers": [*given, *ours, identity]}

    def _finish(
        self,
        scope: Scope,
        record: RequestRecord,
        watch: _Watch,
        failure: BaseException | None,
        received: int,
        seconds: float,
    ) -> None:
        status = watch.outcome(failure)
        self._metrics.observe(
            route=record.route,
            method=scope["method"],
            status=status,
            seconds=seconds,
            received=received,
            sent=watch.sent,
            handed_over=record.handed_over,
        )
        level = logging.DEBUG if record.route in QUIET_ROUTES else logging.INFO
        if not self._access_log or not _access.isEnabledFor(level):
            return  # it costs more to gather the fields than all the rest of this
        fields = {
            "request_id": record.request_id,
            "method": scope["method"][:32],
            "path": visible_path(scope),
            "route": record.route,
            "repository": record.repository,
            "user": record.user[:200],
            "status": status,
            "bytes_in": received,
            "bytes_out": watch.sent,
            "duration_ms": round(seconds * 1000, 3),
            "client": record.client,
            "user_agent": _user_agent(scope),
        }
        if record.handed_over:
            fields["bytes_handed_over"] = record.handed_over
        if record.error_code:
            fields["error_code"] = record.error_code
        if record.trace_id:
            fields["trace_id"] = record.trace_id
        log_request(_access, level, fields)


class _Watch:
    """Looks at one exchange's messages as they pass."""

    __slots__ = (
        "_counts",
        "_gone",
        "_observe",
        "_receive",
        "_request_id",
        "_send",
        "complete",
        "received",
        "sent",
        "status",
    )

    def __init__(
        self, observe: Observe, receive: Receive, send: Send, request_id: str, *, counts: bool
    ) -> None:
        self._observe = observe
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._counts = counts
        self._gone = False
        self.status = 500
        self.received = 0
        self.sent = 0
        self.complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
        elif message["type"] == "http.disconnect" and not self.complete:
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            message = self._observe.head(message, self._request_id)
            size = 0
        else:
            size = _size(kind, message) if self._counts else 0
        try:
            await self._send(message)
        except OSError:
            # ASGI 2.4: the server's way to say that the client is gone.
            self._gone = True
            raise
        self.sent += size
        if kind.startswith("http.response.") and kind != "http.response.start":
            self.complete = self.complete or not message.get("more_body", False)

    def outcome(self, failure: BaseException | None) -> int:
        """The status to count: 499 if the client left before the answer was whole."""
        if self.complete:
            return self.status
        if self._gone or isinstance(failure, ClientGone | ClientDisconnect):
            return CLIENT_GONE
        # Cancelled: the connection ended first. Anything else is a bug, and what the server says.
        return 500 if failure is None or isinstance(failure, Exception) else CLIENT_GONE


def _size(kind: str, message: Mapping[str, Any]) -> int:
    if kind == "http.response.body":
        return len(message.get("body", b""))
    if kind != "http.response.zerocopysend":
        return 0
    count: int | None = message.get("count")
    if count is None:
        file: int = message["file"]
        offset: int | None = message.get("offset")
        begin = os.lseek(file, 0, os.SEEK_CUR) if offset is None else offset
        count = max(0, os.fstat(file).st_size - begin)
    return count


def _request_id(scope: Scope, origin: Origin) -> str:
    if origin.trusted:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                return bytes(value).decode("ascii")
    return f"{random.getrandbits(64):016x}"  # to be told apart by, not to be guessed


def _user_agent(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"user-agent":
            return bytes(value[:200]).decode("latin-1")
    return ""


def visible_path(scope: Scope) -> str:
    """The path as it was sent, with those parameters of its query that are known to be no secrets."""
    raw: bytes | None = scope.get("raw_path")
    path = raw[:2048].decode("latin-1") if raw is not None else str(scope["path"])[:2048]
    query: bytes = scope.get("query_string", b"")
    if not query:
        return path
    shown: list[str] = []
    for part in query[:4096].split(b"&")[:32]:
        encoded, _, value = part.partition(b"=")
        name = unquote_to_bytes(encoded).decode("latin-1")
        if name in _SHOWN:
            shown.append(f"{name}={value[:256].decode('latin-1')}")
        elif name != "_state" and _PARAMETER.fullmatch(name):
            shown.append(f"{name}=[redacted]")
    return f"{path}?{'&'.join(shown)}" if shown else path


def _always(headers: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    configured = tuple((name.lower(), value) for name, value in headers)
    for name, value in configured:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(
                f"http.headers: {name[:64]!r} is not a header, or its value holds control characters."
            )
        if name in _FRAMING:
            raise ValueError(f"http.headers: {name.decode()} is the server's to set; remove it.")
    names = {name for name, _ in configured}
    return (*(pair for pair in _EVERYWHERE if pair[0] not in names), *configured)
