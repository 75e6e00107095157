"""A real registry that hands its spans to a real receiver of OTLP."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from registry.tracing.plan import Plan
from registry.tracing.spans import EACH, PATIENCE, Tracing
from tests.support import access
from tests.support.api import api
from tests.support.images import MIB, random_layer
from tests.support.otlp import Receiver, receiver
from tests.support.servers import free_port, holdfast

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def test_a_push_and_a_pull(collector: Receiver, tmp_path: Path) -> None:
    config = {"tracing": {"endpoint": collector.url, "headers": {"X-Tenant": "images"}}}
    environ = {**SOON, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}
    with holdfast(tmp_path, config=config, environ=environ) as server:
        with api(server.url) as client:
            image = client.push_image("team/app", "1", [random_layer(MIB, "traced")])
            client.client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            client.manifest("team/app", "1")
            assert client.status("team/app/manifests/none") == 404
        (pulled,) = collector.until("GET manifest")
        (missing,) = collector.until("HEAD manifest")
        (pushed,) = collector.until("PUT manifest")
        uploads = collector.until("PUT upload", 2)
    assert server.process.returncode == 0

    assert (pulled.trace, pulled.parent, pulled.kind) == (TRACE, PARENT, "SERVER")
    assert not pulled.failed
    line = next(
        line
        for line in access.requests(server, repository="team/app")
        if (line["method"], line["route"]) == ("GET", "manifest")
    )
    assert line["trace_id"] == TRACE
    assert pulled.attributes == {
        "http.request.method": "GET",
        "http.route": "manifest",
        "http.response.status_code": 200,
        "url.path": "/v2/team/app/manifests/1",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "holdfast.repository": "team/app",
        "holdfast.request_id": line["request_id"],
    }
    assert pulled.resource["service.name"] == "holdfast"
    assert pulled.resource["deployment.environment"] == "test"
    assert missing.trace == TRACE
    assert missing.attributes["holdfast.error_code"] == "MANIFEST_UNKNOWN"
    assert not missing.failed  # the client's mistake is no failure of the registry

    assert pushed.parent == ""
    assert pushed.trace not in {"", TRACE}
    for span in [pulled, pushed, *uploads]:
        calls = collector.below(span)
        assert calls, span
        for call in calls:
            assert call.trace == span.trace
            assert call.kind == "CLIENT"
            assert call.attributes["holdfast.driver"] == "filesystem"
            assert call.name == f"storage {call.attributes['holdfast.operation']}"
            assert span.begun - 1_000_000 <= call.begun <= call.ended <= span.ended + 1_000_000
    names = {call.name for span in uploads for call in collector.below(span)}
    assert {"storage append", "storage publish"} <= names
    assert any(c.attributes["holdfast.result"] == "not_found" for c in collector.below(missing))
    assert image["digest"]

    # What nobody asked for is in no trace: neither probes nor what the registry does by itself.
    assert {path for path, _ in collector.posts} == {"/v1/traces"}
    assert {headers["x-tenant"] for _, headers in collector.posts} == {"images"}
    assert not [span for span in collector.spans if "readyz" in span.name]
    known = {span.identity for span in collector.spans}
    roots = {span.name for span in collector.spans if span.parent not in known}
    assert not [name for name in roots if name.startswith("storage")]


def test_every_line_about_a_traced_request_has_its_trace(
    collector: Receiver, tmp_path: Path
) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **SOON}
    with holdfast(tmp_path, workers=1, environ=environ) as server:
        with api(server.url) as client:
            client.push_image("team/app", "1", [random_layer(10_000, "lines")])
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        collector.until("PUT manifest")
    lines = [line for line in access.lines(server) if line.get("repository") == "team/app"]
    audited = [line for line in access.lines(server) if line["logger"] == "holdfast.audit"]
    assert lines
    assert audited
    by_request = {line["request_id"]: line["trace_id"] for line in lines}
    assert len(set(by_request.values())) == len(lines)
    for line in audited:
        assert line["trace_id"] == by_request[line["request_id"]]
    assert not [
        line
        for line in access.requests(server)
        if line["route"] == "healthz" and "trace_id" in line
    ]


def test_what_is_not_sampled_is_not_sent_and_yet_told_in_the_log(
    collector: Receiver, tmp_path: Path
) -> None:
    config = {"tracing": {"endpoint": collector.url}}
    with holdfast(tmp_path, workers=1, config=config, environ=SOON) as server:
        for flag in ("00", "01"):
            httpx.get(f"{server.url}/v2/", headers={"traceparent": f"00-{TRACE}-{PARENT}-{flag}"})
        collector.until("GET base")
    assert [span.name for span in collector.spans if span.parent == PARENT] == ["GET base"]
    told = [line for line in access.requests(server) if line["route"] == "base"]
    assert [line["trace_id"] for line in told] == [TRACE, TRACE]


def test_a_collector_that_is_gone_harms_nobody_and_is_told_of_once(tmp_path: Path) -> None:
    config = {"tracing": {"endpoint": f"http://127.0.0.1:{free_port()}"}}
    # A batch is given up at once, rather than tried again for seconds.
    environ = {**SOON, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
    with holdfast(tmp_path, workers=1, config=config, environ=environ) as server:
        for number in range(3):
            with api(server.url) as client:
                client.push_image("team/app", "1", [random_layer(10_000, f"gone-{number}")])
            time.sleep(0.5)
        begun = time.monotonic()
        assert server.stop(signal.SIGTERM, timeout=60) == 0
        assert time.monotonic() - begun < PATIENCE + 20
    assert "Traceback" not in server.output()
    told = [line for line in access.lines(server) if "traces are lost" in line["msg"]]
    assert len(told) == 1
    exporter = [line for line in access.lines(server) if line["logger"].startswith("opentelemetry")]
    assert 1 <= len(exporter) <= 3


def test_calls_beyond_the_first_of_a_kind_share_a_span(collector: Receiver) -> None:
    tracing = Tracing(Plan(f"{collector.url}/v1/traces", None, None))
    told: list[str] = []
    record = tracing.recorder("s3", lambda operation, _result, _seconds: told.append(operation))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(EACH + 5):
            record("append", "ok", 0.001)
        record("append", "error", 0.001)
        record("publish", "ok", 0.001)
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        raise AssertionError("nothing is to be received")

    async def send(message: Message) -> None:
        del message

    async def exchange() -> None:
        scope = {"type": "http", "method": "BREW", "path": "/v2/", "headers": []}
        await tracing.app(application)(scope, receive, send)
        record("stat", "ok", 0.001)  # of no request
        await tracing.stop()

    asyncio.run(exchange())
    assert len(told) == EACH + 8
    (request,) = collector.until("HTTP other")
    assert request.failed
    assert request.attributes["http.request.method"] == "_OTHER"
    calls = collector.below(request)
    appends = [call for call in calls if call.name == "storage append"]
    shared = [call for call in appends if "holdfast.calls" in call.attributes]
    assert len(appends) == EACH + 1
    assert [call.attributes["holdfast.calls"] for call in shared] == [6]
    assert shared[0].failed
    assert shared[0].attributes["holdfast.busy_seconds"] == pytest.approx(0.006)
    assert [call.name for call in calls if call not in appends] == ["storage publish"]
    assert len(collector.spans) == len(calls) + 1


def _serve(tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/tree}}}}\n"
        f"http: {{addr: '127.0.0.1:{free_port()}'}}\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "registry.cli", "serve", str(config)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_the_packages_it_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "opentelemetry.py").write_text(
        "raise ModuleNotFoundError('No module named opentelemetry', name='opentelemetry')\n"
    )
    done = _serve(tmp_path, PYTHONPATH=str(hidden), OTEL_TRACES_EXPORTER="otlp")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "OTEL_TRACES_EXPORTER asks for traces, and what sends them is not installed (opentelemetry is "
        "missing): pip install 'holdfast[tracing]', or set OTEL_TRACES_EXPORTER=none and take the "
        "section tracing out of the configuration."
    ]


def test_what_cannot_be_sent_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = _serve(tmp_path, OTEL_TRACES_EXPORTER="jaeger")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_nothing_of_it_is_imported_where_nobody_traces() -> None:
    look = (
        "import sys, registry.cli, registry.wiring; "
        "print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
