"""What may be removed a little later, in few requests: chunks whose object has been published.

For this process they are gone at once, and stay so: a listing that was answered before the removal
must not bring them back after it. Their names are never used again. If the process dies first, or the
store refuses, they are garbage that the purge of old uploads removes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from storage.driver_errors import DriverError
from storage.drivers.s3.bucket import BATCH

log = logging.getLogger("holdfast.storage.s3")

PATIENCE = 2.0
"""Seconds that a key waits for others."""

_REMEMBERED = 10 * BATCH


class Collector:
    """Removes keys in batches, in a thread of its own that begins with the first key."""

    def __init__(self, remove: Callable[[Sequence[str]], None], patience: float = PATIENCE) -> None:
        self._remove = remove
        self._patience = patience
        self._waiting: dict[str, None] = {}
        self._leaving: set[str] = set()
        self._gone: dict[str, None] = {}  # the last of them, oldest first
        self._changed = threading.Condition()
        self._removing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, keys: Iterable[str]) -> None:
        with self._changed:
            self._waiting.update(dict.fromkeys(keys))
            if self._waiting and self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="s3-collector", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def __contains__(self, key: object) -> bool:
        return key in self._waiting or key in self._leaving or key in self._gone

    def flush(self) -> None:
        """Remove what waits, now. Failures are logged."""
        with self._removing:
            while batch := self._take():
                self._remove_now(batch)

    def close(self) -> None:
        """flush(), and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        self.flush()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._changed.wait_for(
                    lambda: len(self._waiting) >= BATCH or self._closed, self._patience
                )
            self.flush()

    def _take(self) -> list[str]:
        with self._changed:
            batch = [key for key, _ in zip(self._waiting, range(BATCH), strict=False)]
            self._leaving.update(batch)
            for key in batch:
                del self._waiting[key]
            return batch

    def _remove_now(self, batch: list[str]) -> None:
        try:
            self._remove(batch)
        except DriverError as error:
            log.warning("%d objects wait for the purge: %s", len(batch), error)
            batch = []
        with self._changed:
            self._gone.update(dict.fromkeys(batch))
            while len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]
            self._leaving.clear()
