"""A real worker on a loopback port, and a client that says exactly what it is told to say."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.server.lifecycle import Lifecycle
from registry.server.listening import listen
from registry.server.run import make_server
from registry.server.settings import ServerSettings

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
PATIENCE = 10.0


def settings(**changes: Any) -> ServerSettings:
    return ServerSettings(**{"addr": ("127.0.0.1", 0), "draintimeout": 1, **changes})


async def say(
    send: Send, status: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers or []})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    for kind in ("startup", "shutdown"):
        message = await receive()
        assert message["type"] == f"lifespan.{kind}"
        await send({"type": f"lifespan.{kind}.complete"})


def routed(handlers: Mapping[str, Handler]) -> ASGIApp:
    """An application of handlers by path; every other path tells what it was asked."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif (handler := handlers.get(scope["path"])) is not None:
            await handler(scope, receive, send)
        else:
            await say(send, 200, scope["method"].encode() + b" " + scope["raw_path"])

    return app


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, method: str = "GET") -> Answer:
        self.say(data)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        version, status, *_ = self.file.readline().split(maxsplit=2)
        assert version == b"HTTP/1.1"
        headers = {k.lower(): v for k, v in http.client.parse_headers(self.file).items()}
        return Answer(int(status), headers, self._body(method, int(status), headers))

    def _body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (100, 204, 304):
            return b""
        if "content-length" in headers:
            body = self.file.read(int(headers["content-length"]))
            assert len(body) == int(headers["content-length"])
            return body
        if headers.get("transfer-encoding") != "chunked":
            return self.file.read()
        body = b""
        while size := int(self.file.readline(), 16):
            body += self.file.read(size)
            assert self.file.read(2) == b"\r\n"
        assert self.file.readline() == b"\r\n"
        return body

    def ended(self) -> bool:
        """Whether the server closes without another byte; False if it resets the connection."""
        try:
            return self.file.read() == b""
        except ConnectionResetError:
            return False

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class Running:
    port: int
    lifecycle: Lifecycle

    def client(self) -> Client:
        return Client(self.port)


@contextmanager
def running(app: ASGIApp, **changes: Any) -> Iterator[Running]:
    """A worker in a thread of this process."""
    wanted = settings(**changes)
    listener = listen(wanted.addr)
    started = threading.Event()
    lifecycle = Lifecycle(0)
    server = make_server(wanted, lifecycle, app, None, ready=started.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="worker")
    port = listener.getsockname()[1]
    thread.start()
    try:
        assert started.wait(PATIENCE)
        yield Running(port, lifecycle)
    finally:
        server.drain(at_once=True)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def got(target: queue.Queue[Any]) -> Any:
    return target.get(timeout=PATIENCE)


def message(kind: str, **rest: Any) -> Message:
    return {"type": f"http.response.{kind}", **rest}
