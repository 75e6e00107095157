"""What surrounds a request: ids, headers, the access line, the counting."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import get_contextvars

from registry.forwarded import ORIGIN, Origin, TrustedProxies
from registry.middleware import Observe, RequestRecord, record_of
from registry.streaming import ClientGone
from registry.telemetry.lines import LineFormatter
from registry.telemetry.metrics import Metrics

PROXY = "10.0.0.1"
CLIENT = "192.0.2.7"

Headers = Sequence[tuple[bytes, bytes]]


class Lines(logging.Handler):
    """Keeps the fields of access lines, and the lines."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def fields(self) -> dict[str, Any]:
        (record,) = self.records
        fields = record.__dict__["fields"]
        assert isinstance(fields, dict)
        return fields

    def rendered(self) -> str:
        (record,) = self.records
        return LineFormatter("json", {}).format(record)


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger("holdfast.access")
    handler, level = Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def observe(
    app: ASGIApp,
    metrics: Metrics,
    *,
    access_log: bool = True,
    headers: Headers = (),
    proxies: Sequence[str] = (PROXY,),
) -> Observe:
    return Observe(
        app,
        metrics=metrics,
        access_log=access_log,
        headers=headers,
        proxies=TrustedProxies(proxies, []),
    )


class Server:
    """Calls an application as a server would, and keeps what it sends."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.sent: list[Message] = []
        self.incoming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        self.gone_after = 1000
        self.scope: Scope = {}

    async def receive(self) -> Message:
        return self.incoming.pop(0) if self.incoming else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if len(self.sent) >= self.gone_after:
            raise ConnectionResetError("gone")
        self.sent.append(message)

    def ask(
        self, method: str = "GET", target: str = "/", headers: Headers = (), **scope: object
    ) -> dict[bytes, bytes]:
        path, _, query = target.partition("?")
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": list(headers),
            "client": (CLIENT, 4711),
            "scheme": "http",
            "http_version": "1.1",
            "state": {},
            **scope,
        }
        asyncio.run(self.call())
        return dict(self.sent[0]["headers"]) if self.sent else {}

    async def call(self) -> None:
        await self.app(self.scope, self.receive, self.send)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


def counted(metrics: Metrics) -> list[str]:
    return [
        line
        for line in metrics.exposition().decode().splitlines()
        if line.startswith("holdfast_requests_total{")
    ]


def test_one_line_tells_all(metrics: Metrics, lines: Lines) -> None:
    async def push(scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        record.route, record.repository, record.user = "manifest", "team/app", "alice"
        record.error_code = "MANIFEST_INVALID"
        body = await Request(scope, receive).body()
        assert body == b"abcdef"
        await PlainTextResponse("hello", 400)(scope, receive, send)

    server = Server(observe(push, metrics))
    server.incoming = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.request", "body": b"def", "more_body": False},
    ]
    sent = server.ask(
        "PUT", "/v2/team/app/manifests/1", [(b"host", b"r"), (b"user-agent", b"docker/27")]
    )
    assert logging.getLevelName(lines.records[0].levelno) == "INFO"
    fields = lines.fields()
    assert fields.pop("duration_ms") >= 0
    assert fields.pop("request_id") == sent[b"x-request-id"].decode()
    assert fields == {
        "method": "PUT",
        "path": "/v2/team/app/manifests/1",
        "route": "manifest",
        "repository": "team/app",
        "user": "alice",
        "status": 400,
        "bytes_in": 6,
        "bytes_out": 5,
        "client": CLIENT,
        "user_agent": "docker/27",
        "error_code": "MANIFEST_INVALID",
    }
    assert json.loads(lines.rendered())["logger"] == "holdfast.access"
    assert counted(metrics) == [
        'holdfast_requests_total{method="PUT",route="manifest",status="400"} 1.0'
    ]
    exposition = metrics.exposition().decode()
    assert 'holdfast_request_bytes_total{route="manifest"} 6.0' in exposition
    assert 'holdfast_response_bytes_total{route="manifest"} 5.0' in exposition
    assert "holdfast_requests_in_progress 0.0" in exposition


def test_around_a_real_application(metrics: Metrics, lines: Lines) -> None:
    async def blob(request: Request) -> Response:
        record_of(request.scope).route = "blob"
        return PlainTextResponse("x" * 100)

    app = observe(Starlette(routes=[Route("/blob", blob)]), metrics)

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app, client=(CLIENT, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://r") as client:
            return await client.get("/blob"), await client.get("/absent")

    found, absent = asyncio.run(ask())
    assert (found.status_code, absent.status_code) == (200, 404)
    for response in (found, absent):
        assert response.headers["docker-distribution-api-version"] == "registry/2.0"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert len(response.headers["x-request-id"]) == 16
    assert [record.__dict__["fields"]["route"] for record in lines.records] == ["blob", "other"]
    assert found.headers["x-request-id"] != absent.headers["x-request-id"]


def test_the_context_has_the_request_id_and_afterwards_not(metrics: Metrics, lines: Lines) -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(get_contextvars()["request_id"])
        seen.append(scope["state"]["request_id"])
        await answer(scope, receive, send)

    async def run() -> None:
        await server.call()
        seen.append(get_contextvars().get("request_id"))

    server = Server(observe(app, metrics))
    server.ask()
    request_id = lines.fields()["request_id"]
    assert seen == [request_id, request_id]
    asyncio.run(run())
    assert seen[-1] is None


@pytest.mark.parametrize("given", [b"abc", b"A.b_c-9", b"x" * 64])
def test_an_id_of_a_trusted_proxy_is_kept(metrics: Metrics, given: bytes) -> None:
    headers = [(b"x-request-id", given), (b"x-forwarded-for", b"192.0.2.9")]
    server = Server(observe(answer, metrics))
    assert server.ask(headers=headers, client=(PROXY, 1))[b"x-request-id"] == given
    record = server.scope["holdfast"]
    assert isinstance(record, RequestRecord)
    assert (record.client, record.request_id) == ("192.0.2.9", given.decode())
    assert server.scope[ORIGIN] == Origin("192.0.2.9", "http", None, True)


@pytest.mark.parametrize("given", [b"", b"x" * 65, b"a b", b"a\n", b"a\r\nb: c", b"\xff", b"a;b"])
def test_an_id_that_is_none_is_replaced(metrics: Metrics, given: bytes) -> None:
    headers = [(b"x-request-id", given)]
    sent = Server(observe(answer, metrics)).ask(headers=headers, client=(PROXY, 1))
    assert sent[b"x-request-id"] != given
    assert len(sent[b"x-request-id"]) == 16


def test_an_id_of_a_stranger_is_not_believed(metrics: Metrics) -> None:
    sent = Server(observe(answer, metrics)).ask(headers=[(b"x-request-id", b"abc")])
    assert sent[b"x-request-id"] != b"abc"


def test_configured_headers_are_on_every_answer(metrics: Metrics) -> None:
    configured = [
        (b"X-Frame-Options", b"DENY"),
        (b"Content-Type", b"never/this"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"X-Several", b"1"),
        (b"X-Several", b"2"),
    ]
    server = Server(observe(answer, metrics, headers=configured))
    server.ask()
    pairs = server.sent[0]["headers"]
    names = [name for name, _ in pairs]
    assert (b"x-frame-options", b"DENY") in pairs
    assert dict(pairs)[b"content-type"] == b"text/plain; charset=utf-8"
    assert names.count(b"content-type") == names.count(b"x-content-type-options") == 1
    assert [value for name, value in pairs if name == b"x-several"] == [b"1", b"2"]


def test_the_application_s_message_is_left_as_it_is(metrics: Metrics) -> None:
    message = {"type": "http.response.start", "status": 200, "headers": [(b"etag", b"1")]}

    async def cached(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)
        await send({"type": "http.response.body"})

    server = Server(observe(cached, metrics))
    assert len(server.ask()) > 1
    assert message == {"type": "http.response.start", "status": 200, "headers": [(b"etag", b"1")]}


@pytest.mark.parametrize(
    "header",
    [
        (b"Content-Length", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"Connection", b"close"),
        (b"a b", b"c"),
        (b"", b"c"),
        (b"a:", b"c"),
        (b"a", b"b\r\nc: d"),
        (b"a", b"\0"),
    ],
)
def test_headers_that_would_break_answers_are_refused(
    metrics: Metrics, header: tuple[bytes, bytes]
) -> None:
    with pytest.raises(ValueError, match=r"^http\.headers: .*\.$"):
        observe(answer, metrics, headers=[header])


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/v2/a/tags/list?n=10&last=b", "/v2/a/tags/list?n=10&last=b"),
        ("/v2/a?_state=SECRET", "/v2/a"),
        ("/v2/a?_state=SECRET&digest=sha256:1", "/v2/a?digest=sha256:1"),
        ("/v2/a?%5Fst%61te=SECRET", "/v2/a"),
        ("/v2/a?token=SECRET&n=1", "/v2/a?token=[redacted]&n=1"),
        ("/v2/a?SECRET%20x", "/v2/a"),
        ("/v2/a?X-Amz-Signature=SECRET", "/v2/a?X-Amz-Signature=[redacted]"),
        ("/v2/%2e%2e/%0a\x1b", "/v2/%2e%2e/%0a\x1b"),
    ],
)
def test_the_path_has_no_secrets(metrics: Metrics, lines: Lines, target: str, shown: str) -> None:
    Server(observe(answer, metrics)).ask(target=target)
    assert lines.fields()["path"] == shown
    rendered = lines.rendered()
    assert "SECRET" not in rendered
    assert rendered.isascii()
    assert rendered.isprintable()


def test_what_a_client_sends_is_cut(metrics: Metrics, lines: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).user = "u" * 1000
        await answer(scope, receive, send)

    target = "/" + "p" * 9000 + "?" + "&".join(f"n={'q' * 500}" for _ in range(100))
    Server(observe(app, metrics)).ask("M" * 100, target, [(b"user-agent", b"a" * 1000)])
    fields = lines.fields()
    assert (len(fields["user_agent"]), len(fields["user"]), len(fields["method"])) == (200, 200, 32)
    assert len(fields["path"]) < 7000


@pytest.mark.parametrize("route", ["healthz", "readyz", "metrics"])
def test_what_machines_ask_is_said_at_debug(metrics: Metrics, lines: Lines, route: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).route = route
        await answer(scope, receive, send)

    server = Server(observe(app, metrics))
    server.ask()
    assert [record.levelno for record in lines.records] == [logging.DEBUG]
    logging.getLogger("holdfast.access").setLevel(logging.INFO)
    server.ask()
    assert len(lines.records) == 1
    assert len(counted(metrics)) == 1


def test_the_access_log_can_be_off(metrics: Metrics, lines: Lines) -> None:
    Server(observe(answer, metrics, access_log=False)).ask()
    assert lines.records == []
    assert len(counted(metrics)) == 1


class Body:
    received = 12345


def test_bytes_of_the_body_source(metrics: Metrics, lines: Lines) -> None:
    extensions = {"holdfast.body": Body()}
    server = Server(observe(answer, metrics))
    server.ask("PATCH", extensions=extensions)
    assert lines.fields()["bytes_in"] == 12345
    assert server.scope["extensions"] is extensions


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"offset": 10, "count": 90}, 90),
        ({"count": 7}, 7),
        ({"offset": 10}, 90),
        ({}, 100),
    ],
)
def test_zero_copy_is_counted(
    metrics: Metrics, lines: Lines, message: dict[str, int], expected: int
) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100)
        file.seek(0)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send(
                {
                    "type": "http.response.zerocopysend",
                    "file": file.fileno(),
                    "more_body": True,
                    **message,
                }
            )
            await send({"type": "http.response.body", "body": b"end"})

        server = Server(observe(app, metrics))
        server.ask()
        assert server.sent[1] == {
            "type": "http.response.zerocopysend",
            "file": file.fileno(),
            "more_body": True,
            **message,
        }
    assert lines.fields()["bytes_out"] == expected + 3
    assert lines.fields()["status"] == 200


def test_a_head_has_no_body(metrics: Metrics, lines: Lines) -> None:
    Server(observe(answer, metrics)).ask("HEAD")
    assert lines.fields()["bytes_out"] == 0
    assert lines.fields()["status"] == 200


def failing(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ClientGone("gone"), 499),
        (ClientDisconnect(), 499),
        (asyncio.CancelledError(), 499),
        (OSError("the storage failed"), 500),
        (ValueError("bug"), 500),
    ],
)
def test_an_answer_that_broke_off(
    metrics: Metrics, lines: Lines, error: BaseException, status: int
) -> None:
    with pytest.raises(type(error)):
        Server(observe(failing(error), metrics)).ask()
    assert lines.fields()["status"] == status
    assert lines.fields()["bytes_out"] == 4
    assert b"holdfast_requests_in_progress 0.0" in metrics.exposition()


@pytest.mark.parametrize("gone_after", [0, 1])
def test_a_client_that_left_during_the_answer(
    metrics: Metrics, lines: Lines, gone_after: int
) -> None:
    server = Server(observe(answer, metrics))
    server.gone_after = gone_after
    with pytest.raises(ConnectionResetError):
        server.ask()
    assert lines.fields()["status"] == 499
    assert lines.fields()["bytes_out"] == 0


def test_a_client_that_left_during_its_request(metrics: Metrics, lines: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    server = Server(observe(app, metrics))
    server.incoming = [{"type": "http.request", "body": b"abc", "more_body": True}]
    server.ask("PUT")
    assert lines.fields()["status"] == 499
    assert lines.fields()["bytes_in"] == 3


def test_a_disconnect_after_the_answer_is_none(metrics: Metrics, lines: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        await receive()
        await receive()

    Server(observe(app, metrics)).ask()
    assert lines.fields()["status"] == 200


def test_no_answer_at_all_is_a_mistake(metrics: Metrics, lines: Lines) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    Server(observe(app, metrics)).ask()
    assert lines.fields()["status"] == 500


def test_a_bug_is_a_500_of_the_framework_and_still_observed(metrics: Metrics, lines: Lines) -> None:
    async def bug(request: Request) -> Response:
        raise RuntimeError("bug")

    server = Server(observe(Starlette(routes=[Route("/", bug)]), metrics))
    with pytest.raises(RuntimeError):
        server.ask()
    assert server.sent[0]["status"] == 500
    assert b"x-request-id" in dict(server.sent[0]["headers"])
    assert lines.fields()["status"] == 500


def test_other_scopes_pass_through(metrics: Metrics) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    server = Server(observe(app, metrics))
    server.scope = {"type": "lifespan"}
    asyncio.run(server.call())
    assert seen == [{"type": "lifespan"}]


def test_a_record_without_the_middleware() -> None:
    assert record_of({"type": "http"}) == RequestRecord()


def test_what_was_counted_is_flushed_when_the_application_has_ended(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(metrics, "flush", lambda: order.append("flushed"))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        order.append(scope["type"])
        if scope["state"] == "broken":
            raise RuntimeError("it did not start")

    async def no_message() -> Message:
        raise AssertionError("nobody asks")

    async def ignore(message: Message) -> None:
        del message

    observed = observe(app, metrics)
    asyncio.run(observed({"type": "lifespan", "state": ""}, no_message, ignore))
    with pytest.raises(RuntimeError):
        asyncio.run(observed({"type": "lifespan", "state": "broken"}, no_message, ignore))
    assert order == ["lifespan", "flushed"] * 2
