"""Health endpoints, and the probe behind readiness."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from registry import readiness
from registry.api.health import STUCK, health_routes
from registry.readiness import FAILS, FULL, SILENT, UNTRIED, WORKS, StorageProbe
from registry.telemetry.metrics import Metrics, metrics
from storage.driver_errors import NoSpace, Unavailable

CAUSE = "write /var/lib/registry/probe: input/output error"


@dataclass
class Lifecycle:
    draining: bool = False


@dataclass
class Storage:
    """A driver's check(), as the test wants it."""

    error: Exception | None = None
    calls: int = 0

    def check(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def gauge() -> str:
    lines = metrics().exposition().decode().splitlines()
    return next(line for line in lines if line.startswith("holdfast_storage_ready "))


def test_from_unknown_to_ready_to_not_ready_and_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    storage = Storage()
    probe = StorageProbe(storage.check, interval=0.001, threshold=3)
    assert (probe.ready, probe.reason) == (False, UNTRIED)

    async def scenario() -> None:
        probe.start()
        probe.start()
        await until(lambda: probe.ready)
        assert probe.reason == WORKS
        assert gauge().endswith(" 1.0")
        storage.error = Unavailable(CAUSE)
        await until(lambda: not probe.ready)
        assert probe.reason == FAILS
        assert gauge().endswith(" 0.0")
        calls = storage.calls
        await until(lambda: storage.calls > calls + 5)
        storage.error = None
        await until(lambda: probe.ready)
        await probe.stop()
        await probe.stop()
        calls = storage.calls
        await asyncio.sleep(0.02)
        assert storage.calls == calls

    run(scenario())
    # One line per change, however many checks there were.
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR", "INFO"]
    causes = [record.__dict__["fields"].get("cause") for record in caplog.records]
    assert causes == [None, f"Unavailable: {CAUSE}", f"Unavailable: {CAUSE}", None]


class Scripted:
    """Outcomes one after the other; the check waits for the test at each.

    When a check is entered, the outcome of the one before it has been taken in.
    """

    def __init__(self) -> None:
        self.step = threading.Semaphore(0)
        self.error: Exception | None = None
        self.entered = 0

    def check(self) -> None:
        self.entered += 1
        assert self.step.acquire(timeout=30)
        if self.error is not None:
            raise self.error


def test_only_the_threshold_of_failures_in_a_row_counts() -> None:
    scripted = Scripted()
    probe = StorageProbe(scripted.check, interval=0, threshold=3)

    async def step(error: Exception | None) -> bool:
        await until(lambda: scripted.entered > 0)
        scripted.error = error
        before = scripted.entered
        scripted.step.release()
        await until(lambda: scripted.entered > before)
        return probe.ready

    async def scenario() -> None:
        probe.start()
        bad = Unavailable(CAUSE)
        outcomes = [None, bad, bad, None, bad, bad, bad, bad, None, bad]
        ready = [await step(error) for error in outcomes]
        assert ready == [True, True, True, True, True, True, False, False, True, True]
        await probe.stop()
        scripted.step.release()

    run(scenario())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoSpace(CAUSE), FULL),
        (Unavailable(CAUSE), FAILS),
        (RuntimeError(CAUSE), FAILS),
    ],
)
def test_a_storage_that_never_worked_says_why_at_once(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    probe = StorageProbe(Storage(error).check, interval=60, threshold=3)

    async def scenario() -> None:
        probe.start()
        await until(lambda: probe.reason != UNTRIED)
        await probe.stop()

    run(scenario())
    assert (probe.ready, probe.reason) == (False, reason)
    assert CAUSE not in probe.reason
    (record,) = caplog.records
    assert CAUSE in record.__dict__["fields"]["cause"]


def test_a_check_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SHORTEST_LIMIT", 0.02)
    hanging, release = threading.Event(), threading.Event()
    running: list[int] = []
    most: list[int] = []

    def check() -> None:
        running.append(1)
        most.append(len(running))
        if hanging.is_set():
            assert release.wait(30)
        running.pop()

    probe = StorageProbe(check, interval=0.001, threshold=3)

    async def scenario() -> None:
        probe.start()
        await until(lambda: probe.ready)
        hanging.set()
        await until(lambda: not probe.ready)
        assert probe.reason == SILENT
        hanging.clear()
        release.set()
        await until(lambda: probe.ready)
        hanging.set()
        release.clear()
        await until(lambda: not probe.ready)
        begun = time.monotonic()
        await probe.stop()
        assert time.monotonic() - begun < 5

    run(scenario())
    release.set()
    assert max(most) == 1


def test_a_hung_check_ends_after_the_loop_without_harm() -> None:
    release, ended = threading.Event(), threading.Event()

    def check() -> None:
        assert release.wait(30)
        ended.set()

    probe = StorageProbe(check, interval=1, threshold=1)

    async def scenario() -> None:
        probe.start()
        await asyncio.sleep(0)
        await probe.stop()

    run(scenario())
    release.set()
    assert ended.wait(30)
    for thread in threading.enumerate():
        if thread.name == "storage-probe":
            thread.join(30)  # what it raises now would be a warning, and so an error


def test_the_end_of_the_probe_by_a_bug_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    probe = StorageProbe(Storage().check, interval=0.001, threshold=1)

    async def scenario() -> None:
        probe.start()
        await until(lambda: probe.ready)
        monkeypatch.setattr(probe, "_begin", lambda: 1 / 0)
        await until(lambda: not probe.ready)
        await probe.stop()

    run(scenario())
    assert caplog.records[-1].levelname == "CRITICAL"


def ask(
    path: str,
    *,
    method: str = "GET",
    ready: bool = True,
    reason: str = WORKS,
    draining: bool = False,
    exhausted: bool = False,
    metrics_path: str | None = "/metrics",
) -> httpx.Response:
    probe = StorageProbe(Storage().check, interval=1, threshold=1)
    probe.ready, probe.reason = ready, reason
    app = Starlette(
        routes=health_routes(
            Lifecycle(draining),
            probe,
            Metrics(),
            exhausted=lambda: exhausted,
            metrics_path=metrics_path,
        )
    )

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://r") as client:
            return await client.request(method, path)

    return asyncio.run(request())


@pytest.mark.parametrize(("ready", "draining"), [(True, False), (False, False), (True, True)])
def test_alive_whatever_the_storage_does(ready: bool, draining: bool) -> None:
    response = ask("/healthz", ready=ready, draining=draining)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("ready", "reason", "draining", "status"),
    [
        (True, WORKS, False, 200),
        (True, FAILS, False, 200),
        (False, UNTRIED, False, 503),
        (False, SILENT, False, 503),
        (True, WORKS, True, 503),
    ],
)
def test_ready(ready: bool, reason: str, draining: bool, status: int) -> None:
    response = ask("/readyz", ready=ready, reason=reason, draining=draining)
    assert response.status_code == status
    assert response.json() == {
        "status": "ok" if status == 200 else "unavailable",
        "storage": reason,
        "draining": draining,
    }


def test_not_ready_while_requests_only_pile_up() -> None:
    response = ask("/readyz", exhausted=True)
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "storage": STUCK, "draining": False}
    assert ask("/healthz", exhausted=True).status_code == 200


def test_metrics_are_told() -> None:
    response = ask("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "holdfast_build_info{" in response.text


def test_metrics_may_be_elsewhere_or_nowhere() -> None:
    assert ask("/internal/metrics", metrics_path="/internal/metrics").status_code == 200
    assert ask("/metrics", metrics_path="/internal/metrics").status_code == 404
    assert ask("/metrics", metrics_path=None).status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_methods(path: str) -> None:
    assert ask(path, method="HEAD").status_code == 200
    assert ask(path, method="POST").status_code == 405
