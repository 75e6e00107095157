"""A proxy in front of an S3 server: it counts what is asked, and lets requests fail as networks do.

The Host header goes through unchanged: a client signs the proxy's address, and the server checks the
signature against what it received. Buckets are recognised in the path only, so clients use path style.

    with s3_proxy(rgw) as proxy:
        client = proxy.store.client()
        proxy.inject(Answer(503, "SlowDown"), operation="PutObject", times=2)
        ...
        assert proxy.counts() == {"PutObject": 3}
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.s3 import S3Store

_PIECE: Final = 1 << 18
_PATIENCE: Final = 120.0
_HOP_BY_HOP: Final = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request, by its name in Amazon's API. `key` is "" for what is asked of a bucket."""

    method: str
    operation: str
    bucket: str
    key: str
    query: dict[str, str] = field(hash=False)
    headers: dict[str, str] = field(hash=False)  # names in lower case


class Fault(Protocol):
    def meet(self, exchange: _Exchange) -> None:
        """Treat one request in the place of `exchange.forward()`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the store's own; the request never reaches it. With status 200, a failure told late."""

    status: int
    code: str
    message: str = "Injected by a test."
    headers: tuple[tuple[str, str], ...] = ()

    def meet(self, exchange: _Exchange) -> None:
        exchange.drop_body()
        exchange.answer(self.status, self.code, self.message, self.headers)


@dataclass(frozen=True, slots=True)
class Delay:
    """The answer comes late."""

    seconds: float

    def meet(self, exchange: _Exchange) -> None:
        exchange.closing.wait(self.seconds)
        exchange.forward()


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer at all until the proxy ends; the request never reaches the store."""

    def meet(self, exchange: _Exchange) -> None:
        exchange.closing.wait(_PATIENCE)
        exchange.reset()


@dataclass(frozen=True, slots=True)
class ResetRequest:
    """The connection breaks when so many bytes of the request's body have come."""

    after: int = 0

    def meet(self, exchange: _Exchange) -> None:
        exchange.drop_body(self.after)
        exchange.reset()


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The store does what it is asked, and nobody learns of it."""

    def meet(self, exchange: _Exchange) -> None:
        with contextlib.closing(exchange.ask()) as response:
            response.read()
        exchange.reset()


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """The connection ends when so many bytes of the answer's body have gone: with RST, or else with FIN."""

    after: int
    reset: bool = True

    def meet(self, exchange: _Exchange) -> None:
        with contextlib.closing(exchange.ask()) as response:
            exchange.pass_head(response)
            exchange.pass_body(response, self.after)
        if self.reset:
            exchange.reset()
        else:
            exchange.handler.close_connection = True


@dataclass(frozen=True, slots=True)
class Alter:
    """The answer is whole, and its body another than the store's."""

    change: Callable[[bytes], bytes]

    def meet(self, exchange: _Exchange) -> None:
        with contextlib.closing(exchange.ask()) as response:
            exchange.pass_other(response, self.change(response.read()))


@dataclass(frozen=True, slots=True)
class Hold:
    """Stops requests until the test lets them go on."""

    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def meet(self, exchange: _Exchange) -> None:
        self.reached.set()
        self.go_on.wait(_PATIENCE)
        exchange.forward()


@dataclass(slots=True)
class _Rule:
    fault: Fault
    operation: str | None
    key: re.Pattern[str]
    skip: int
    times: int | None

    def applies(self, call: Call) -> bool:
        """Uses one of its times if so."""
        if self.operation not in (None, call.operation) or not self.key.search(call.key):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return True


class S3Proxy:
    """`store` is the server behind it, as seen through it."""

    def __init__(self, store: S3Store, host: str = "127.0.0.1", port: int = 0) -> None:
        target = urlsplit(store.endpoint)
        assert target.scheme == "http"
        assert target.hostname is not None
        self.target = (target.hostname, target.port or 80)
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._rules: list[_Rule] = []
        self._server = _Server(self, (host, port))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.store = store.at(f"http://{host}:{self._server.server_address[1]}")

    def inject(
        self,
        fault: Fault,
        *,
        operation: str | None = None,
        key: str = "",
        times: int | None = 1,
        skip: int = 0,
    ) -> None:
        """Let requests fail: `times` of them (None: all), after `skip` that pass.

        Those of an operation (None: all), whose key has a match of the regular expression `key`. Of several
        faults that fit, the one injected first is met.
        """
        with self._lock:
            self._rules.append(_Rule(fault, operation, re.compile(key), skip, times))

    def heal(self) -> None:
        """No faults from here on."""
        with self._lock:
            self._rules.clear()

    @property
    def unmet(self) -> list[Fault]:
        """Faults with a number of times of which some are left."""
        with self._lock:
            return [rule.fault for rule in self._rules if rule.times is not None and rule.times > 0]

    @property
    def calls(self) -> list[Call]:
        """What was asked since the start or forget(), those that failed too, in order."""
        with self._lock:
            return list(self._calls)

    def counts(self) -> dict[str, int]:
        """How often each operation was asked for."""
        return dict(Counter(call.operation for call in self.calls))

    @property
    def connections(self) -> int:
        """How many were ever made to it."""
        return self._server.accepted

    def forget(self) -> None:
        with self._lock:
            self._calls.clear()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.break_connections()
        self._thread.join(10)

    def fault(self, call: Call) -> Fault | None:
        """Note a request; what it has to meet."""
        with self._lock:
            self._calls.append(call)
            return next((rule.fault for rule in self._rules if rule.applies(call)), None)


@contextlib.contextmanager
def s3_proxy(store: S3Store, host: str = "127.0.0.1", port: int = 0) -> Iterator[S3Proxy]:
    """A proxy for the time of a block, on an address of this machine; port 0 is a free one."""
    proxy = S3Proxy(store, host, port)
    try:
        yield proxy
    finally:
        proxy.close()


def operation(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> str:
    """The name of a request in Amazon's API."""
    if key:
        return _of_object(method, query, "x-amz-copy-source" in headers)
    if method == "POST" and "delete" in query:
        return "DeleteObjects"
    if method == "GET":
        for name, asked in _ASKED_OF_BUCKET.items():
            if name in query:
                return asked
        return "ListObjects"
    return {"PUT": "CreateBucket", "DELETE": "DeleteBucket", "HEAD": "HeadBucket"}.get(
        method, method
    ) + "".join(f"?{name}" for name in query if name in _ASKED_OF_BUCKET)


_ASKED_OF_BUCKET: Final = {
    "list-type": "ListObjectsV2",
    "uploads": "ListMultipartUploads",
    "lifecycle": "GetBucketLifecycleConfiguration",
    "location": "GetBucketLocation",
    "versioning": "GetBucketVersioning",
    "policy": "GetBucketPolicy",
}


def _of_object(method: str, query: dict[str, str], copies: bool) -> str:
    upload = "uploadId" in query
    match method:
        case "PUT" if upload:
            return "UploadPartCopy" if copies else "UploadPart"
        case "PUT":
            return "CopyObject" if copies else "PutObject"
        case "POST":
            return "CompleteMultipartUpload" if upload else "CreateMultipartUpload"
        case "DELETE":
            return "AbortMultipartUpload" if upload else "DeleteObject"
        case "GET":
            return "ListParts" if upload else "GetObject"
        case _:
            return "HeadObject" if method == "HEAD" else method


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: S3Proxy, address: tuple[str, int]) -> None:
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        self.accepted = 0
        super().__init__(address, _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        self.accepted += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        """Only close(): a shutdown before it would send FIN where RST is meant."""
        assert isinstance(request, socket.socket)
        self._open.discard(request)
        request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients and servers may go away in the midst of an exchange: that is what this is for."""

    def break_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(*self.server.proxy.target, timeout=_PATIENCE)

    def finish(self) -> None:
        self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def _any(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        name = operation(self.command, key, query, headers)
        call = Call(self.command, name, bucket, key, query, headers)
        fault = self.server.proxy.fault(call)
        exchange = _Exchange(self, self.server.proxy.closing)
        if fault is None:
            exchange.forward()
        else:
            fault.meet(exchange)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - called by these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        """Nothing: what was asked is in `calls`."""


class _Exchange:
    """One request on its way, for the faults."""

    def __init__(self, handler: _Handler, closing: threading.Event) -> None:
        self.handler = handler
        self.closing = closing
        self._left = int(handler.headers.get("content-length") or 0)

    def forward(self) -> None:
        """As if there were no proxy."""
        with contextlib.closing(self.ask()) as response:
            self.pass_head(response)
            self.pass_body(response)

    def ask(self) -> http.client.HTTPResponse:
        """Send the request on; the store's answer, its body not yet read."""
        upstream = self.handler.upstream
        upstream.putrequest(
            self.handler.command, self.handler.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in self.handler.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has answered already
            for piece in self._body():
                upstream.send(piece)
        return upstream.getresponse()

    def pass_head(self, response: http.client.HTTPResponse) -> None:
        lines = [f"HTTP/1.1 {response.status} {response.reason}"]
        lines += [
            f"{name}: {value}"
            for name, value in response.getheaders()
            if name.lower() not in _HOP_BY_HOP
        ]
        if response.chunked:
            lines.append("Transfer-Encoding: chunked")
        self.handler.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def pass_body(self, response: http.client.HTTPResponse, limit: int | None = None) -> None:
        """All of it, or the first `limit` bytes."""
        left = limit
        while left is None or left > 0:
            piece = response.read1(_PIECE if left is None else min(_PIECE, left))
            if response.chunked:
                self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            else:
                self.handler.wfile.write(piece)
            if not piece:
                return
            if left is not None:
                left -= len(piece)

    def pass_other(self, response: http.client.HTTPResponse, body: bytes) -> None:
        """The answer with this body in the place of its own."""
        lines = [f"HTTP/1.1 {response.status} {response.reason}", f"Content-Length: {len(body)}"]
        lines += [
            f"{name}: {value}"
            for name, value in response.getheaders()
            if name.lower() not in _HOP_BY_HOP | {"content-length"}
        ]
        self.handler.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def answer(
        self, status: int, code: str, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """An error as S3 tells it."""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            "<RequestId>test</RequestId><HostId>test</HostId></Error>"
        ).encode()
        self.handler.send_response(status)
        for name, value in (*headers, ("Content-Type", "application/xml")):
            self.handler.send_header(name, value)
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        if self.handler.command != "HEAD":
            self.handler.wfile.write(body)

    def drop_body(self, limit: int | None = None) -> None:
        """Read the request's body, or its first `limit` bytes, to nowhere."""
        for _ in self._body(limit):
            pass

    def reset(self) -> None:
        """End the client's connection with RST."""
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.handler.close_connection = True

    def _body(self, limit: int | None = None) -> Iterator[bytes]:
        left = self._left if limit is None else min(limit, self._left)
        while left > 0:
            piece = self.handler.rfile.read1(min(_PIECE, left))
            if not piece:
                raise ConnectionResetError("the client has gone")
            left -= len(piece)
            self._left -= len(piece)
            yield piece
