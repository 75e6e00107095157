"""Spans of requests and of what their storage did, handed to a collector over OTLP.

A call of the storage becomes a span when it has ended, in the thread that made it. The first calls of a
kind in a request have spans of their own; all further ones share one, with their number: a layer of
gigabytes is thousands of appends, and a listing may be as many reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from importlib import metadata
from time import time_ns
from typing import Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from registry.middleware import QUIET_ROUTES, RequestRecord, record_of
from registry.telemetry.metrics import METHODS
from registry.tracing.plan import Plan
from storage.drivers.observed import Record

EACH: Final = 16
"""Calls of one kind in one request that have spans of their own."""

PATIENCE: Final = 5.0
"""Seconds that a worker which stops waits for a collector to take its last spans."""

Headers = Iterable[tuple[bytes, bytes]]

log = logging.getLogger("holdfast.tracing")


class Tracing:
    """Of one worker; made after the fork, because it sends in a thread of its own."""

    def __init__(self, plan: Plan) -> None:
        resource = Resource.create(
            {
                "service.name": "holdfast",
                "service.version": metadata.version("holdfast"),
                "host.name": socket.gethostname(),
                "process.pid": os.getpid(),
            }
        ).merge(OTELResourceDetector().detect())  # what the operator says of it comes last
        self._provider = TracerProvider(
            sampler=None if plan.share is None else ParentBasedTraceIdRatio(plan.share),
            resource=resource,
            shutdown_on_exit=False,
        )
        headers = None if plan.headers is None else dict(plan.headers)
        exporter = _Exporter(endpoint=plan.endpoint, headers=headers)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("holdfast")

    def app(self, app: ASGIApp) -> ASGIApp:
        """`app`, with a span for every request. Goes inside registry.middleware.Observe."""
        return Traced(app, self._tracer)

    def recorder(self, driver: str, record: Record) -> Record:
        """The `record` of an ObservedDriver, with a span for each call that a traced request makes."""

        def traced(operation: str, result: str, seconds: float) -> None:
            record(operation, result, seconds)
            calls = _calls.get()
            if calls is not None:
                calls.add(driver, operation, result, seconds)

        return traced

    async def stop(self) -> None:
        """Send what is left, for PATIENCE seconds at most."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=shut_down, name="tracing-end", daemon=True).start()
        try:
            await asyncio.wait_for(ended.wait(), PATIENCE)
        except TimeoutError:
            log.warning("the collector of traces does not answer; the last spans are lost")


class _Exporter(OTLPSpanExporter):
    """Tells when a collector begins to take no spans, and when it takes them again; not of each batch."""

    def __init__(self, *, endpoint: str | None, headers: dict[str, str] | None) -> None:
        super().__init__(endpoint=endpoint, headers=headers)
        self._lost = False
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(lambda _: not self._lost)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        lost = result is not SpanExportResult.SUCCESS
        if lost and not self._lost:
            log.warning("traces are lost until the collector takes them again")
        elif self._lost and not lost:
            log.info("the collector takes traces again")
        self._lost = lost
        return result


class _Shared:
    """Further calls of one kind, which share a span."""

    __slots__ = ("begun", "count", "ended", "errors", "seconds")

    def __init__(self, begun: int) -> None:
        self.begun = begun
        self.ended = begun
        self.seconds = 0.0
        self.count = 0
        self.errors = 0


class _Calls:
    """Those of one traced request to the storage, by whatever threads."""

    def __init__(self, tracer: Tracer, parent: Context) -> None:
        self._tracer = tracer
        self._parent = parent
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._shared: dict[tuple[str, str], _Shared] = {}

    def add(self, driver: str, operation: str, result: str, seconds: float) -> None:
        ended = time_ns()
        begun = ended - round(seconds * 1e9)
        with self._lock:
            count = self._counts[operation] = self._counts.get(operation, 0) + 1
            if count > EACH:
                shared = self._shared.setdefault((driver, operation), _Shared(begun))
                shared.ended = ended
                shared.seconds += seconds
                shared.count += 1
                shared.errors += result == "error"
                return
        span = self._start(driver, operation, begun)
        span.set_attribute("holdfast.result", result)
        _end(span, ended, failed=result == "error")

    def finish(self) -> None:
        with self._lock:
            shared, self._shared = self._shared, {}
        for (driver, operation), calls in shared.items():
            span = self._start(driver, operation, calls.begun)
            span.set_attribute("holdfast.calls", calls.count)
            span.set_attribute("holdfast.busy_seconds", calls.seconds)
            _end(span, calls.ended, failed=calls.errors > 0)

    def _start(self, driver: str, operation: str, begun: int) -> Span:
        return self._tracer.start_span(
            f"storage {operation}",
            self._parent,
            SpanKind.CLIENT,
            {"holdfast.driver": driver, "holdfast.operation": operation},
            start_time=begun,
        )


_calls: ContextVar[_Calls | None] = ContextVar("calls", default=None)


class _HeadersGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        return [value.decode("latin-1") for name, value in carrier if name == wanted] or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_getter: Final = _HeadersGetter()


class Traced:
    """The middleware. A trace that the client has begun is gone on with; probes are not traced."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix("/") in QUIET_ROUTES:
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        method = scope["method"] if scope["method"] in METHODS else "HTTP"
        span = self._start(scope, method, record)
        record.trace_id = f"{span.get_span_context().trace_id:032x}"
        calls = (
            _Calls(self._tracer, trace.set_span_in_context(span)) if span.is_recording() else None
        )
        bound = bind_contextvars(trace_id=record.trace_id)
        token = _calls.set(calls)
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            raise
        finally:
            _calls.reset(token)
            reset_contextvars(**bound)
            if calls is not None:
                calls.finish()
                _describe(span, method, status, record)
            _end(span, time_ns(), failed=status >= 500)

    def _start(self, scope: Scope, method: str, record: RequestRecord) -> Span:
        return self._tracer.start_span(
            method,
            propagate.extract(scope["headers"], getter=_getter),
            SpanKind.SERVER,
            {
                "http.request.method": method if method != "HTTP" else "_OTHER",
                "url.path": scope["path"][:2048],
                "url.scheme": record.scheme,
                "client.address": record.client,
                "holdfast.request_id": record.request_id,
            },
        )


def _describe(span: Span, method: str, status: int, record: RequestRecord) -> None:
    """What is known of the request only now."""
    span.update_name(f"{method} {record.route}")
    span.set_attribute("http.route", record.route)
    span.set_attribute("http.response.status_code", status)
    if record.repository:
        span.set_attribute("holdfast.repository", record.repository)
    if record.error_code:
        span.set_attribute("holdfast.error_code", record.error_code)


def _end(span: Span, ended: int, *, failed: bool) -> None:
    if failed:
        span.set_status(Status(StatusCode.ERROR))
    span.end(ended)
