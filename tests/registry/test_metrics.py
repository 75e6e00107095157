"""What is counted, in one process and over several."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry.telemetry import metrics as module
from registry.telemetry.metrics import Metrics
from registry.telemetry.tallies import DRIVER_BUCKETS

ROOT = Path(__file__).resolve().parents[2]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(exposition: bytes) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition.decode("utf-8"))
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"holdfast_{name}", frozenset(labels.items())


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_requests(metrics: Metrics) -> None:
    for seconds, status in ((0.004, 200), (0.2, 200), (61.0, 499)):
        metrics.observe(
            route="blob", method="GET", status=status, seconds=seconds, received=3, sent=5
        )
    found = samples(metrics.exposition())
    assert found[key("requests_total", route="blob", method="GET", status="200")] == 2
    assert found[key("requests_total", route="blob", method="GET", status="499")] == 1
    assert found[key("request_bytes_total", route="blob")] == 9
    assert found[key("response_bytes_total", route="blob")] == 15
    labels = {"route": "blob", "method": "GET"}
    durations = "request_duration_seconds"
    assert found[key(f"{durations}_count", **labels)] == 3
    assert found[key(f"{durations}_sum", **labels)] == pytest.approx(61.204)
    for bound, count in (("0.005", 1), ("0.1", 1), ("0.25", 2), ("60.0", 2), ("+Inf", 3)):
        assert found[key(f"{durations}_bucket", le=bound, **labels)] == count


def test_a_client_cannot_add_series(metrics: Metrics) -> None:
    for number in range(50):
        metrics.observe(
            route="other", method=f"M{number}", status=405, seconds=0, received=0, sent=0
        )
    found = samples(metrics.exposition())
    assert found[key("requests_total", route="other", method="OTHER", status="405")] == 50
    assert len([name for name, _ in found if name == "holdfast_requests_total"]) == 1


def test_gauges_caches_drivers(metrics: Metrics) -> None:
    metrics.uploads_open.inc()
    metrics.requests_in_progress.inc()
    metrics.requests_in_progress.dec()
    metrics.storage_ready(True)
    metrics.cache_request("manifest", hit=True)
    metrics.cache_request("manifest", hit=True)
    metrics.cache_request("manifest", hit=False)
    record = metrics.driver_recorder("filesystem")
    record("stat", "ok", 0.002)
    record("stat", "not_found", 0.002)
    found = samples(metrics.exposition())
    assert found[key("uploads_open")] == 1
    assert found[key("requests_in_progress")] == 0
    assert found[key("storage_ready")] == 1
    assert found[key("cache_requests_total", cache="manifest", result="hit")] == 2
    assert found[key("cache_requests_total", cache="manifest", result="miss")] == 1
    driver = {"driver": "filesystem", "operation": "stat"}
    assert found[key("driver_operations_total", result="ok", **driver)] == 1
    assert found[key("driver_operations_total", result="not_found", **driver)] == 1
    assert found[key("driver_operation_duration_seconds_count", **driver)] == 2
    (info,) = [labels for name, labels in found if name == "holdfast_build_info"]
    assert dict(info).keys() == {"version", "python"}


def test_the_audit_is_counted_and_what_is_wrong_with_access(metrics: Metrics) -> None:
    for event in ("denied", "denied", "push"):
        metrics.audited(event)
    problems = ["The policy is broken."]
    metrics.watch_access(lambda: problems)
    found = samples(metrics.exposition())
    assert found[key("audit_events_total", event="denied")] == 2
    assert found[key("audit_events_total", event="push")] == 1
    assert found[key("access_problems")] == 1
    problems.clear()
    assert samples(metrics.exposition())[key("access_problems")] == 0


def test_names_are_ours_and_every_metric_is_explained(metrics: Metrics) -> None:
    metrics.observe(route="blob", method="GET", status=200, seconds=1, received=1, sent=1)
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        assert family.name.startswith("holdfast_")
        assert not family.name.endswith("_created")
        assert family.documentation.endswith(".")


def test_counting_in_many_threads_loses_nothing(metrics: Metrics) -> None:
    def count() -> None:
        for number in range(500):
            metrics.observe(
                route="blob", method="GET", status=200 + number % 5, seconds=0, received=1, sent=0
            )

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = samples(metrics.exposition())
    assert found[key("request_bytes_total", route="blob")] == 2000
    assert sum(value for (name, _), value in found.items() if name.endswith("requests_total")) == (
        2000
    )


def test_counting_that_interrupts_counting_neither_hangs_nor_loses(metrics: Metrics) -> None:
    """A listing that nobody finished is counted when it is collected, whatever is going on then."""
    record = metrics.driver_recorder("filesystem")

    class Interrupted(float):
        def __gt__(self, other: float) -> bool:
            record("list", "ok", 0.001)
            return float(self) > other

    def count() -> None:
        for result in ("ok", "error"):
            record("list", result, Interrupted(0.3))

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    found = samples(metrics.exposition())
    labels = {"driver": "filesystem", "operation": "list"}
    interruptions = 2 * math.ceil(math.log2(len(DRIVER_BUCKETS) + 1))
    assert found[key("driver_operations_total", result="error", **labels)] == 1
    assert found[key("driver_operations_total", result="ok", **labels)] == interruptions + 1
    durations = "driver_operation_duration_seconds_bucket"
    assert found[key(durations, le="0.001", **labels)] == interruptions
    assert found[key(durations, le="+Inf", **labels)] == interruptions + 2


def test_one_object_per_process() -> None:
    assert module.metrics() is module.metrics()
    assert b"holdfast_build_info" in module.exposition()


def test_prepare_comes_first(tmp_path: Path) -> None:
    Metrics()
    with pytest.raises(RuntimeError, match=r"^prepare\(\) comes before"):
        module.prepare(tmp_path)
    assert os.listdir(tmp_path) == []
    module.worker_died(os.getpid())


def test_cleanup_removes_only_what_prepare_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was not made by"):
        module.cleanup(tmp_path)
    assert tmp_path.is_dir()


NODE = """
import json, multiprocessing, os, signal, sys, time
from pathlib import Path
from registry.telemetry import metrics as module

def work(pipe):
    metrics = module.metrics()
    metrics.storage_ready(True)
    metrics.requests_in_progress.inc()
    metrics.uploads_open.inc(2)
    while count := pipe.recv():
        for _ in range(count):
            metrics.observe(
                route="blob", method="GET", status=200, seconds=0.01, received=1, sent=10
            )
        pipe.send(metrics.exposition().decode())

def start(context, target=work):
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs,))
    process.start()
    return process, ours

def work_unseen(pipe):
    metrics = module.metrics()
    pipe.recv()
    for status in (200, 404):
        metrics.observe(
            route="tags", method="GET", status=status, seconds=0.01, received=0, sent=0
        )
    pipe.send(None)
    metrics.uploads_open.inc()
    if pipe.recv() == "stop":
        metrics.cache_request("manifest", hit=True)
        metrics.flush()
        os._exit(0)

SHOWN = (
    "holdfast_uploads_open 5.0",
    'holdfast_request_duration_seconds_count{method="GET",route="tags"} 2.0',
)

def until_shown(pipe):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pipe.send(1)
        exposition = pipe.recv()
        if all(line in exposition for line in SHOWN):
            break
    return exposition

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    path = module.prepare(Path(sys.argv[2]))
    said = {}
    (one, first), (two, second) = start(context), start(context)
    first.send(3)
    first.recv()
    second.send(4)
    said["both"] = second.recv()
    os.kill(one.pid, signal.SIGKILL)
    one.join()
    module.worker_died(one.pid)
    (path / f"counter_{one.pid}1.db").touch()  # of a worker that died while it began
    second.send(1)
    said["killed"] = second.recv()
    three, third = start(context)
    third.send(2)
    said["replaced"] = third.recv()
    four, fourth = start(context, work_unseen)
    fourth.send(None)
    fourth.recv()
    said["unseen"] = until_shown(third)
    fourth.send("stop")
    four.join()
    third.send(1)
    said["stopped"] = third.recv()
    for pipe, process in ((second, two), (third, three)):
        pipe.send(0)
        process.join()
    module.cleanup(path)
    said["left"] = os.listdir(sys.argv[2])
    said["imported"] = module._metrics is not None
    print(json.dumps(said))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_add_up_and_the_dead_leave_no_gauges(method: str, tmp_path: Path) -> None:
    script, directory = tmp_path / "node.py", tmp_path / "metrics"
    script.write_text(NODE)
    directory.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    done = subprocess.run(
        [sys.executable, str(script), method, str(directory)],
        env=environment,
        check=True,
        timeout=120,
        stdout=subprocess.PIPE,
    )
    said = json.loads(done.stdout)
    counter = key("requests_total", route="blob", method="GET", status="200")
    count = key("request_duration_seconds_count", route="blob", method="GET")
    expected = {"both": (7, 2, 4), "killed": (8, 1, 2), "replaced": (10, 2, 4)}
    for moment, (requests, in_progress, uploads) in expected.items():
        found = samples(said[moment].encode())
        assert found[counter] == found[count] == requests
        assert found[key("response_bytes_total", route="blob")] == 10 * requests
        assert found[key("requests_in_progress")] == in_progress
        assert found[key("uploads_open")] == uploads
        assert found[key("storage_ready")] == 1
        assert not any("pid" in dict(labels) for _, labels in found)
    unseen = samples(said["unseen"].encode())
    assert unseen[key("uploads_open")] == 5
    for status in ("200", "404"):
        assert unseen[key("requests_total", route="tags", method="GET", status=status)] == 1
    assert unseen[key("request_duration_seconds_count", route="tags", method="GET")] == 2
    stopped = samples(said["stopped"].encode())
    assert stopped[key("cache_requests_total", cache="manifest", result="hit")] == 1
    assert said["left"] == []
    assert said["imported"] is False
