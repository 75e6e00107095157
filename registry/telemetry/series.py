"""The series that Prometheus is shown, and how what was counted gets into them.

Importing this decides where the library keeps its values: see `metrics.py`, which does it at the right
moment. Adding to a series that several processes share costs microseconds and a system call, so
nothing here is called for a request.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from os import DirEntry, scandir
from pathlib import Path

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from registry.telemetry.tallies import DRIVER_BUCKETS, REQUEST_BUCKETS, Counted, Tally

# A second series per counter, and one that several processes cannot have.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # not annotated by the library


class Series:
    """Not thread-safe, save for `storage_ready` and exposition()."""

    def __init__(self) -> None:
        own: CollectorRegistry = CollectorRegistry()
        self._registry = own
        self._requests: Counter = Counter(
            "holdfast_requests_total",
            "Requests answered; status 499 is a client that went away.",
            ("route", "method", "status"),
            registry=own,
        )
        self._durations = _Durations(
            "holdfast_request_duration_seconds",
            "Time from a request's headers to the end of its response.",
            ("route", "method"),
            registry=own,
            buckets=REQUEST_BUCKETS,
        )
        self._received: Counter = Counter(
            "holdfast_request_bytes_total", "Bytes of request bodies.", ("route",), registry=own
        )
        self._sent: Counter = Counter(
            "holdfast_response_bytes_total", "Bytes of response bodies.", ("route",), registry=own
        )
        self._handed_over: Counter = Counter(
            "holdfast_handed_over_bytes_total",
            "Bytes of response bodies that nginx sent from the disk itself (X-Accel-Redirect).",
            ("route",),
            registry=own,
        )
        self._cache: Counter = Counter(
            "holdfast_cache_requests_total",
            "Questions put to a cache.",
            ("cache", "result"),
            registry=own,
        )
        self._operations: Counter = Counter(
            "holdfast_driver_operations_total",
            "Operations of the storage driver.",
            ("driver", "operation", "result"),
            registry=own,
        )
        self._operation_durations = _Durations(
            "holdfast_driver_operation_duration_seconds",
            "Duration of operations of the storage driver.",
            ("driver", "operation"),
            registry=own,
            buckets=DRIVER_BUCKETS,
        )
        self._audited: Counter = Counter(
            "holdfast_audit_events_total",
            "Lines of the audit, which has who, what, from where and by which rule.",
            ("event",),
            registry=own,
        )
        self.access_problems: Gauge = Gauge(
            "holdfast_access_problems",
            "Problems with the files of users, rules and keys; what was read last without one counts.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self.certificate_expiry: Gauge = Gauge(
            "holdfast_tls_certificate_expiry_timestamp_seconds",
            "When the served certificate ends, in seconds since the epoch; 0 without TLS.",
            registry=own,
            multiprocess_mode="livemin",
        )
        self.requests_in_progress: Gauge = Gauge(
            "holdfast_requests_in_progress",
            "Requests that have begun and not ended.",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.uploads_open: Gauge = Gauge(
            "holdfast_uploads_open",
            "Uploads that are receiving a body.",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.storage_ready: Gauge = Gauge(
            "holdfast_storage_ready",
            "1 if every worker finds that the storage accepts writes.",
            registry=own,
            multiprocess_mode="livemin",
        )
        info: Gauge = Gauge(
            "holdfast_build_info",
            "1, labelled with the versions that run.",
            ("version", "python"),
            registry=own,
            multiprocess_mode="livemax",
        )
        info.labels(_version(), platform.python_version()).set(1)

    def add(self, counted: Counted) -> None:
        """Raises OSError if the place that processes share cannot be written."""
        for (route, method, status), tally in counted.requests.items():
            self._requests.labels(route, method, str(status)).inc(tally.count)
            self._durations.labels(route, method).add(tally)
            if tally.received:
                self._received.labels(route).inc(tally.received)
            if tally.sent:
                self._sent.labels(route).inc(tally.sent)
            if tally.handed_over:
                self._handed_over.labels(route).inc(tally.handed_over)
        for (driver, operation, result), tally in counted.operations.items():
            self._operations.labels(driver, operation, result).inc(tally.count)
            self._operation_durations.labels(driver, operation).add(tally)
        for (cache, hit), count in counted.cache.items():
            self._cache.labels(cache, "hit" if hit else "miss").inc(count)
        for event, count in counted.audited.items():
            self._audited.labels(event).inc(count)

    def exposition(self, shared: Path | None) -> bytes:
        """In Prometheus's text format 0.0.4: of the processes that share a directory, or of this one."""
        if shared is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Workers(shared))
        return generate_latest(registry)


class _Durations(Histogram):
    """A histogram that takes many observations at once, which the library's own cannot."""

    def add(self, tally: Tally) -> None:
        self._sum.inc(tally.seconds)
        for value, count in zip(self._buckets, tally.buckets, strict=True):
            if count:
                value.inc(count)


class _Workers:
    """Adds up the files of all workers.

    An empty file is one whose worker has just made it, or died while making it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        files: Sequence[str] = [entry.path for entry in scandir(self._directory) if _holds(entry)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # not annotated by the library
        return merged


def _holds(entry: DirEntry[str]) -> bool:
    try:
        return entry.name.endswith(".db") and entry.stat().st_size > 0
    except FileNotFoundError:
        return False  # worker_died() has just removed it


def _version() -> str:
    try:
        return metadata.version("holdfast")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed
