"""A storage that never answers one call: the request ends with 503, nothing stays open, others go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from storage.drivers.memory import MemoryDriver
from tests.faults.content import APP, BLOB, LAYERS, LIB, OLD, Acknowledged, fill, get, manifest_put
from tests.faults.driver import Fault, FaultyDriver, Moment
from tests.faults.inprocess import Answer, InProcess, Request, serving
from tests.support.images import sha256

PATIENCE = 0.2


class Gate:
    """What a call hangs on. A test opens it at its end, or no thread would ever end."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def hang(self, _seconds: float) -> None:
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()


@contextmanager
def hanging(inner: MemoryDriver, *faults: Fault) -> Iterator[tuple[InProcess, Gate]]:
    gate = Gate()
    driver = FaultyDriver(inner, faults, sleep=gate.hang)
    with serving(driver, patience=PATIENCE) as registry:
        try:
            yield registry, gate
        finally:
            gate.open()


@pytest.fixture(scope="module")
def filled() -> tuple[MemoryDriver, Acknowledged]:
    driver = MemoryDriver()
    with serving(driver) as registry:
        return driver, fill(registry)


def refused(answer: Answer) -> str:
    assert answer.status == 503, answer
    assert answer.headers["retry-after"] == "5"
    (error,) = answer.json()["errors"]
    assert error["code"] == "UNAVAILABLE"
    message: str = error["message"]
    return message


@pytest.mark.parametrize(
    "path",
    [
        "/v2/_catalog",
        f"/v2/{LIB}/tags/list",
        f"/v2/{LIB}/tags/list?n=0",
        f"/v2/{LIB}/manifests/stable",
        f"/v2/{LIB}/manifests/{sha256(OLD)}",
        f"/v2/{LIB}/blobs/{sha256(LAYERS[0])}",
        f"/v2/{LIB}/referrers/{sha256(OLD)}",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whatever_only_looks(
    filled: tuple[MemoryDriver, Acknowledged], path: str, method: str
) -> None:
    driver, known = filled
    with hanging(driver, Fault.slow(60, key=LIB, times=1)) as (registry, gate):
        assert "did not answer within" in refused(registry.send(Request(method, path)))
        gate.open()
        assert registry.send(Request(method, path)).status in {200, 503}
    with serving(driver) as registry:
        assert [*known.problems(registry)] == []


def test_one_stuck_call_of_few_threads_and_the_rest_is_refused_at_once(
    filled: tuple[MemoryDriver, Acknowledged],
) -> None:
    driver, _ = filled
    with hanging(driver, Fault.slow(60, key=LIB, times=1)) as (registry, gate):
        refused(registry.send(get(f"/v2/{LIB}/tags/list")))  # one of two threads
        for request in (
            get(f"/v2/{APP}/tags/list"),
            manifest_put(OLD, "stable", APP),
            Request("DELETE", f"/v2/{APP}/manifests/stable"),
            Request("DELETE", f"/v2/{APP}/blobs/{sha256(BLOB)}"),
        ):
            assert "too many requests wait" in refused(registry.send(request))
        assert registry.send(get("/v2/")).status == 200
        gate.open()


def test_content_that_was_found_too_late_is_closed(
    filled: tuple[MemoryDriver, Acknowledged],
) -> None:
    inner, _ = filled
    closed, gate = threading.Event(), Gate()

    class Watched(FaultyDriver):
        @contextmanager
        def step(self, method: str, key: str) -> Iterator[None]:
            with super().step(method, key):
                yield
            if method == "reader.close":
                closed.set()

    plan = [Fault.slow(60, method="open", moment=Moment.AFTER, times=1)]
    with serving(Watched(inner, plan, sleep=gate.hang), patience=PATIENCE) as registry:
        refused(registry.send(get(f"/v2/{APP}/blobs/{sha256(LAYERS[0])}")))
        assert not closed.is_set()
        gate.open()
        assert closed.wait(20)
