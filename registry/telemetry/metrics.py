"""What Prometheus is told, added up over all worker processes of this node.

Counting is plain arithmetic under one lock. What a worker has counted is handed to prometheus-client
once a second, when the worker itself is scraped, and when its application ends (flush()): so a scrape
shows what the other workers had counted a second ago, a graceful stop loses nothing, and a worker that
is killed loses what it counted in its last second.

prometheus-client chooses where values live when it is first imported: in memory, or, if
PROMETHEUS_MULTIPROC_DIR is set, in one memory-mapped file per process and kind, which any of the
workers adds up when it is scraped. So the order is

    parent    prepare(), start workers, worker_died(pid) for each that ends, cleanup() at the end
    worker    metrics(), which imports the library on first use, and flush() at the end

and the parent never calls metrics() itself: it would count as one more worker, whose storage is
never ready. Without prepare() the metrics are those of one process.

Label values come from small fixed sets, never from a request, so that no client can add series.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from registry.telemetry.tallies import DRIVER_BUCKETS, REQUEST_BUCKETS, Counted, Tally

if TYPE_CHECKING:
    from registry.telemetry.series import Series

K = TypeVar("K", bound=Hashable)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FLUSH_INTERVAL: Final = 1.0  # seconds
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Those of requests that have names of their own; a client may send any."""

log = logging.getLogger("holdfast.metrics")

_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX: Final = "holdfast-metrics-"


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
    """Drop the gauges of a worker that ended, however it ended; what it had flushed stays.

    The parent calls it before it starts another worker. Does nothing without prepare().
    """
    if _VARIABLE in os.environ:
        from prometheus_client.multiprocess import mark_process_dead  # see the module's docstring

        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # not annotated by the library


class Level:
    """A number that goes up and down. Callable from any thread, never raises."""

    __slots__ = ("_lock", "value")

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        with self._lock:
            self.value += amount

    def dec(self) -> None:
        self.inc(-1)


class Metrics:
    """The metrics of this process. What counts is cheap, callable from any thread, and never raises."""

    def __init__(self) -> None:
        from registry.telemetry.series import Series  # see the module's docstring

        self._series: Series = Series()
        # Re-entrant: a listing that nobody finished is counted when it is collected as garbage, which
        # may be in the midst of counting something else.
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self._counted = Counted()
        self.requests_in_progress = Level(self._lock)
        self.uploads_open = Level(self._lock)
        """Uploads that are receiving a body right now; whoever receives one calls inc() and dec()."""
        self._access_problems: Callable[[], Sequence[str]] = tuple
        self._certificate_expiry: Callable[[], float] = float

    def observe(
        self,
        *,
        route: str,
        method: str,
        status: int,
        seconds: float,
        received: int,
        sent: int,
        handed_over: int = 0,
    ) -> None:
        """Count one request. `route` is a name of ours; an unknown `method` is counted as OTHER."""
        if method not in METHODS:
            method = "OTHER"
        with self._lock:
            tally = _tally(self._counted.requests, (route, method, status), REQUEST_BUCKETS)
            tally.buckets[bisect_left(REQUEST_BUCKETS, seconds)] += 1
            tally.seconds += seconds
            tally.received += received
            tally.sent += sent
            tally.handed_over += handed_over

    def cache_request(self, cache: str, *, hit: bool) -> None:
        """Count one question to the cache called `cache`."""
        with self._lock:
            counts = self._counted.cache
            counts[cache, hit] = counts.get((cache, hit), 0) + 1

    def audited(self, event: str) -> None:
        """Count one line of the audit. `event` is a name of ours."""
        with self._lock:
            counts = self._counted.audited
            counts[event] = counts.get(event, 0) + 1

    def watch_access(self, problems: Callable[[], Sequence[str]]) -> None:
        """From now on, show how many problems there are with what says who may do what."""
        self._access_problems = problems

    def watch_certificate(self, expiry: Callable[[], float]) -> None:
        """From now on, show when the served certificate ends; 0 is that there is none."""
        self._certificate_expiry = expiry

    def driver_recorder(self, driver: str) -> Callable[[str, str, float], None]:
        """The `record` of an ObservedDriver over the driver called `driver`."""

        def record(operation: str, result: str, seconds: float) -> None:
            with self._lock:
                key = driver, operation, result
                tally = _tally(self._counted.operations, key, DRIVER_BUCKETS)
                tally.buckets[bisect_left(DRIVER_BUCKETS, seconds)] += 1
                tally.seconds += seconds

        return record

    def storage_ready(self, ready: bool) -> None:
        self._series.storage_ready.set(1 if ready else 0)

    def flush(self) -> None:
        """Show what was counted to whoever is scraped. Raises OSError; what was counted is then lost."""
        with self._writing:
            with self._lock:
                counted, self._counted = self._counted, Counted()
            self._series.requests_in_progress.set(self.requests_in_progress.value)
            self._series.uploads_open.set(self.uploads_open.value)
            self._series.access_problems.set(len(self._access_problems()))
            self._series.certificate_expiry.set(self._certificate_expiry())
            self._series.add(counted)

    def keep_flushing(self) -> None:
        """From now on, flush() every FLUSH_INTERVAL, in a thread that ends with the process."""
        threading.Thread(target=self._flush_for_ever, name="metrics", daemon=True).start()

    def exposition(self) -> bytes:
        """All metrics of all workers in Prometheus's text format 0.0.4. Takes milliseconds."""
        self.flush()
        directory = os.environ.get(_VARIABLE)
        return self._series.exposition(None if directory is None else Path(directory))

    def _flush_for_ever(self) -> None:
        while True:
            time.sleep(FLUSH_INTERVAL)
            try:
                self.flush()
            except OSError as error:
                log.warning("what the last second counted is missing in the metrics: %s", error)


def _tally(tallies: dict[K, Tally], labels: K, bounds: Sequence[float]) -> Tally:
    found = tallies.get(labels)
    # Made before it is looked for again: making it may count, see Metrics._lock.
    return found if found is not None else tallies.setdefault(labels, Tally(bounds))


def _memory() -> Path | None:
    path = Path("/dev/shm")  # noqa: S108 - the name in it is mkdtemp's, private and unguessable
    return path if path.is_dir() and os.access(path, os.W_OK | os.X_OK) else None


_lock = threading.Lock()
_metrics: Metrics | None = None


def metrics() -> Metrics:
    """The one Metrics object of this process, made on first use; it flushes where others are scraped."""
    global _metrics
    if _metrics is None:
        with _lock:
            if _metrics is None:
                _metrics = Metrics()
                if _VARIABLE in os.environ:
                    _metrics.keep_flushing()
    return _metrics


def exposition() -> bytes:
    return metrics().exposition()
