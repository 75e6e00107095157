"""What Prometheus is told, added up over all worker processes of this node.

prometheus-client chooses where values live when it is first imported: in memory, or, if
PROMETHEUS_MULTIPROC_DIR is set, in one memory-mapped file per process and kind, which any of the
workers adds up when it is scraped. So the order is

    parent    prepare(), start workers, worker_died(pid) for each that ends, cleanup() at the end
    worker    metrics(), which imports the library on first use

and the parent never calls metrics() itself: it would count as one more worker, whose storage is
never ready. Without prepare() the metrics are those of one process.

Label values come from small fixed sets, never from a request, so that no client can add series.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX: Final = "holdfast-metrics-"
_REQUEST_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_DRIVER_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def prepare(directory: Path | None) -> Path:
    """Share metrics between this process and those it starts from now on; the parent calls it once.

    Makes a fresh directory in `directory`, or else in memory (/dev/shm) where there is some: the
    files are memory-mapped, and a process that touches one on a full disk is killed. Returns it, for
    cleanup(). Raises OSError if it cannot be made, RuntimeError if the library is imported already.
    """
    values = sys.modules.get("prometheus_client.values")
    if values is not None and not getattr(values.ValueClass, "_multiprocess", False):
        raise RuntimeError("prepare() comes before the first use of metrics() in this process.")
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory or _memory()))
    os.environ[_VARIABLE] = str(path)
    return path


def cleanup(path: Path) -> None:
    """Remove what prepare() returned; the parent calls it when all workers have ended."""
    if not path.name.startswith(_PREFIX):
        raise ValueError(f"{path} was not made by prepare().")
    shutil.rmtree(path, ignore_errors=True)
    if os.environ.get(_VARIABLE) == str(path):
        del os.environ[_VARIABLE]


def worker_died(pid: int) -> None:
    """Drop the gauges of a worker that ended, however it ended; what it counted stays.

    The parent calls it before it starts another worker. Does nothing without prepare().
    """
    if _VARIABLE in os.environ:
        from prometheus_client.multiprocess import mark_process_dead  # see the module's docstring

        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # not annotated by the library


class Metrics:
    """The metrics of this process. Cheap, callable from any thread, never raises."""

    uploads_open: Gauge
    """Uploads that are receiving a body right now; whoever receives one calls inc() and dec()."""

    requests_in_progress: Gauge

    def __init__(self) -> None:
        import prometheus_client
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        # A second series per counter, and one that several processes cannot have.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs
        self._registry: CollectorRegistry = CollectorRegistry()
        own = self._registry
        self._requests: Counter = Counter(
            "holdfast_requests_total",
            "Requests answered; status 499 is a client that went away.",
            ("route", "method", "status"),
            registry=own,
        )
        self._durations: Histogram = Histogram(
            "holdfast_request_duration_seconds",
            "Time from a request's headers to the end of its response.",
            ("route", "method"),
            registry=own,
            buckets=_REQUEST_BUCKETS,
        )
        self._received: Counter = Counter(
            "holdfast_request_bytes_total",
            "Bytes of request bodies.",
            ("route",),
            registry=own,
        )
        self._sent: Counter = Counter(
            "holdfast_response_bytes_total",
            "Bytes of response bodies.",
            ("route",),
            registry=own,
        )
        self.requests_in_progress = Gauge(
            "holdfast_requests_in_progress",
            "Requests that have begun and not ended.",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.uploads_open = Gauge(
            "holdfast_uploads_open",
            "Uploads that are receiving a body.",
            registry=own,
            multiprocess_mode="livesum",
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
        self._operation_durations: Histogram = Histogram(
            "holdfast_driver_operation_duration_seconds",
            "Duration of operations of the storage driver.",
            ("driver", "operation"),
            registry=own,
            buckets=_DRIVER_BUCKETS,
        )
        self._storage_ready: Gauge = Gauge(
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
        # labels() costs as much as counting, so what it returns is kept.
        self._by_status: dict[tuple[str, str, int], Counter] = {}
        self._by_route: dict[tuple[str, str], tuple[Histogram, Counter, Counter]] = {}
        self._by_result: dict[tuple[str, bool], Counter] = {}

    def observe(
        self, *, route: str, method: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        """Count one request. `route` is a name of ours; an unknown `method` is counted as OTHER."""
        if method not in _METHODS:
            method = "OTHER"
        try:
            requests = self._by_status[route, method, status]
            durations, bytes_in, bytes_out = self._by_route[route, method]
        except KeyError:
            requests = self._requests.labels(route, method, str(status))
            durations = self._durations.labels(route, method)
            bytes_in, bytes_out = self._received.labels(route), self._sent.labels(route)
            self._by_status[route, method, status] = requests
            self._by_route[route, method] = durations, bytes_in, bytes_out
        requests.inc()
        durations.observe(seconds)
        if received:
            bytes_in.inc(received)
        if sent:
            bytes_out.inc(sent)

    def cache_request(self, cache: str, *, hit: bool) -> None:
        """Count one question to the cache called `cache`."""
        try:
            counter = self._by_result[cache, hit]
        except KeyError:
            counter = self._cache.labels(cache, "hit" if hit else "miss")
            self._by_result[cache, hit] = counter
        counter.inc()

    def driver_recorder(self, driver: str) -> Callable[[str, str, float], None]:
        """The `record` of an ObservedDriver over the driver called `driver`."""
        known: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

        def record(operation: str, result: str, seconds: float) -> None:
            try:
                operations, durations = known[operation, result]
            except KeyError:
                operations = self._operations.labels(driver, operation, result)
                durations = self._operation_durations.labels(driver, operation)
                known[operation, result] = operations, durations
            operations.inc()
            durations.observe(seconds)

        return record

    def storage_ready(self, ready: bool) -> None:
        self._storage_ready.set(1 if ready else 0)

    def exposition(self) -> bytes:
        """All metrics of all workers in Prometheus's text format 0.0.4. Takes milliseconds."""
        from prometheus_client import CollectorRegistry, generate_latest

        directory = os.environ.get(_VARIABLE)
        if directory is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Workers(Path(directory)))
        return generate_latest(registry)


class _Workers:
    """Adds up the files of all workers.

    An empty file is one whose worker has just made it, or died while making it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.multiprocess import MultiProcessCollector

        files = [entry.path for entry in os.scandir(self._directory) if _holds_data(entry)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # not annotated by the library
        return merged


def _holds_data(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.name.endswith(".db") and entry.stat().st_size > 0
    except FileNotFoundError:
        return False  # worker_died() has just removed it


def _memory() -> Path | None:
    path = Path("/dev/shm")  # noqa: S108 - the name in it is mkdtemp's, private and unguessable
    return path if path.is_dir() and os.access(path, os.W_OK | os.X_OK) else None


def _version() -> str:
    try:
        return metadata.version("holdfast")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed


_lock = threading.Lock()
_metrics: Metrics | None = None


def metrics() -> Metrics:
    """The one Metrics object of this process, made on first use."""
    global _metrics
    if _metrics is None:
        with _lock:
            if _metrics is None:
                _metrics = Metrics()
    return _metrics


def exposition() -> bytes:
    return metrics().exposition()
