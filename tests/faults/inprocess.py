"""A registry in this process, whole but for the socket, over whatever driver a test brings.

The application, the middleware and the threads are those of `registry/worker.py`. What is left out is
the HTTP server, so a request is one call and costs a millisecond; thousands of cases are affordable.
"""

from __future__ import annotations

import asyncio
import atexit
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol
from urllib.parse import quote

from starlette.types import Message, Scope

from auth.anonymous import AllowAll
from registry.api.call import Services
from registry.app import create_app
from registry.forwarded import Links, TrustedProxies
from registry.middleware import Observe
from registry.streaming import Threads, Uploading
from registry.telemetry.metrics import Metrics
from registry.threads import PATIENCE
from registry.upload_tokens import UploadTokens
from storage.driver import Driver
from storage.repository import Store

SECRET = b"one for all: an upload outlives its process"


class Died(BaseException):
    """The process ends here. No Exception, because nothing in it may catch that."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    url: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """`whole` is False where the application failed after the head: the server tells the client so."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.content)

    def __str__(self) -> str:
        return f"{self.status}{'' if self.whole else ', cut'}: {self.content[:300]!r}"


class Registry(Protocol):
    """Whatever answers: here it is in this process, elsewhere a server."""

    def send(self, request: Request) -> Answer: ...


class _Body:
    """`registry.streaming.Body` of bytes that are all here, in pieces as a socket gives them."""

    def __init__(self, content: bytes) -> None:
        self.expected: int | None = len(content)
        self.received = 0
        self.window = 0
        self.batch = 1
        self._content = content

    async def read(self, limit: int) -> list[bytes | memoryview]:
        piece = self._content[self.received : self.received + min(limit, 64 * 1024)]
        self.received += len(piece)
        return [piece] if piece else []


@cache
def _metrics() -> Metrics:
    return Metrics()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all: making loops, and asyncio.run's care for Ctrl-C, would take most of the time."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


class InProcess:
    """`close` it when it is not to serve any more."""

    def __init__(self, driver: Driver, patience: float = PATIENCE) -> None:
        self._threads = Threads(2, patience)
        services = Services(
            store=Store(driver),
            threads=self._threads,
            uploading=Uploading(self._threads, lambda _: None),
            tokens=UploadTokens(SECRET),
            links=Links(None, True, ""),
            authorizer=AllowAll(),
        )
        self._app = Observe(
            create_app(services),
            metrics=_metrics(),
            access_log=True,
            headers=[],
            proxies=TrustedProxies([], []),
        )

    def close(self) -> None:
        self._threads.close()

    def send(self, request: Request) -> Answer:
        """Raises Died if the process did."""
        return _loop().run_until_complete(self._exchange(request))

    async def _exchange(self, request: Request) -> Answer:
        messages: list[Message] = []

        async def send(message: Message) -> None:
            messages.append(message)

        failure: Exception | None = None
        try:
            await self._app(_scope(request), _receive, send)
        except Exception as error:  # noqa: BLE001 - what the server would meet, whatever it is
            failure = error
        if not messages:
            return Answer(500, {}, f"a bug: {failure!r}".encode(), whole=True)
        start, *rest = messages
        content = b"".join(message.get("body", b"") for message in rest)
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        whole = bool(rest) and not rest[-1].get("more_body", False)
        return Answer(start["status"], headers, content, whole)


async def _receive() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("nothing more comes")


def _scope(request: Request) -> Scope:
    path, _, query = request.url.partition("?")
    headers = {"host": "registry.test", "content-length": str(len(request.content))}
    headers |= {name.lower(): value for name, value in request.headers.items()}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path, safe="/:%").encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 5000),
        "extensions": {"holdfast.body": _Body(request.content)},
    }


@contextmanager
def serving(driver: Driver, patience: float = PATIENCE) -> Iterator[InProcess]:
    registry = InProcess(driver, patience)
    try:
        yield registry
    finally:
        registry.close()
