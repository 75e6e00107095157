"""Rows of many clients at once: they pull one image, or hold connections on which nothing happens."""

from __future__ import annotations

import contextlib
import select
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from socket import MSG_DONTWAIT

from tests.bench.content import MIB, Content
from tests.bench.measure import Figure, Meter, Row, Stage, Target
from tests.bench.processes import resident, tree
from tests.bench.small import image
from tests.bench.transfers import push_manifest, push_patch
from tests.bench.trees import IMAGE
from tests.bench.wire import SILENCE, Head, Unverified, Wire, request
from tests.support.servers import Server

_REPOSITORY = "bench/crowd"
_TAG = "1"
_SMALL_LAYERS = 8
_SMALL = 50_000
_LARGE_LAYERS = 2
_LARGE = MIB
_RECEIVE = 256 * 1024
_QUIET = 1.0
"""Seconds for which the idle connections stay idle before the memory is looked at."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One request of a pull, and what must come back."""

    request: bytes
    digest: str
    content: Content | memoryview

    @property
    def size(self) -> int:
        return self.content.size if isinstance(self.content, Content) else len(self.content)

    def slice(self, offset: int, length: int) -> memoryview:
        if isinstance(self.content, Content):
            return self.content.slice(offset, length)
        return self.content[offset : offset + length]


class _Puller:
    """One client: the manifest by its tag, then each blob, on one connection; compared as they come."""

    def __init__(self, port: int, parts: Sequence[_Part]) -> None:
        self._parts = iter(parts)
        self._part: _Part | None = None
        self._taken = 0
        self._in_head = True
        self.began = time.perf_counter()
        self.wire = Wire(port)
        self._ask()

    @property
    def done(self) -> bool:
        return self._part is None

    def step(self, buffer: memoryview) -> None:
        """Take what has come."""
        count = self.wire.socket.recv_into(buffer, len(buffer), MSG_DONTWAIT)
        if not count:
            raise Unverified("The server closed a connection in the middle of a pull.")
        data = buffer[:count]
        if self._in_head:
            self.wire.rest += data
            head, end, rest = self.wire.rest.partition(b"\r\n\r\n")
            if not end:
                return
            self._check(Head.parse(head))
            data = memoryview(rest)
        self._compare(data)

    def _check(self, head: Head) -> None:
        part = self._part
        assert part is not None
        head.expect(200, "GET in a pull").expect_digest(part.digest, "GET in a pull")
        if head.length != part.size:
            raise Unverified(f"{part.size} bytes came with length {head.length}.")
        self._in_head = False
        self.wire.rest = b""

    def _compare(self, data: memoryview) -> None:
        part = self._part
        assert part is not None
        if bytearray(data) != part.slice(self._taken, len(data)):
            raise Unverified(
                f"A pull got wrong bytes between {self._taken} and {len(data)} further."
            )
        self._taken += len(data)
        if self._taken == part.size:
            self._ask()

    def _ask(self) -> None:
        self._part = next(self._parts, None)
        self._taken = 0
        self._in_head = True
        if self._part is not None:
            self.wire.socket.sendall(self._part.request)


@dataclass(slots=True)
class _Crowd:
    server: Server
    stage: Stage
    parts: list[_Part] = field(default_factory=list)


@contextlib.contextmanager
def _with_image(stage: Stage) -> Iterator[_Crowd]:
    with stage.contender.start(stage.directory) as server:
        config = Content(2000)
        layers = [Content(_SMALL) for _ in range(_SMALL_LAYERS)]
        layers += [Content(_LARGE) for _ in range(_LARGE_LAYERS)]
        manifest, digest = image(layers, config)
        with Wire(server.port) as wire:
            for content in (config, *layers):
                push_patch(wire, _REPOSITORY, content)
            push_manifest(wire, _REPOSITORY, _TAG, manifest, digest)
        host = f"127.0.0.1:{server.port}"

        def part(path: str, digest: str, content: Content | memoryview) -> _Part:
            question = request("GET", f"/v2/{_REPOSITORY}/{path}", host, {"Accept": IMAGE})
            return _Part(question, digest, content)

        blobs = [part(f"blobs/{each.digest}", each.digest, each) for each in (config, *layers)]
        manifest_part = part(f"manifests/{_TAG}", digest, memoryview(manifest))
        yield _Crowd(server, stage, [manifest_part, *blobs])


def _pull_at_once(state: _Crowd, meter: Meter) -> None:
    scale = state.stage.scale
    taken: list[float] = []
    with meter.measure(state.server, scale.waves * scale.clients / 1000):
        for _ in range(scale.waves):
            taken += _wave(state.server.port, state.parts, scale.clients)
    cuts = statistics.quantiles(taken, n=100)
    meter.note(p50_ms=cuts[49] * 1000, p99_ms=cuts[98] * 1000)


def _wave(port: int, parts: Sequence[_Part], clients: int) -> list[float]:
    """Seconds that each client took, from before it connected."""
    buffer = memoryview(bytearray(_RECEIVE))
    taken: list[float] = []
    with contextlib.ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        pullers: dict[int, _Puller] = {}
        for _ in range(clients):
            puller = _Puller(port, parts)
            stack.callback(puller.wire.socket.close)
            pullers[puller.wire.socket.fileno()] = puller
            poll.register(puller.wire.socket.fileno(), select.EPOLLIN)
        while len(taken) < clients:
            ready = poll.poll(SILENCE)
            if not ready:
                raise Unverified(f"{clients - len(taken)} pulls stood still for {SILENCE} s.")
            for descriptor, _ in ready:
                puller = pullers[descriptor]
                puller.step(buffer)
                if puller.done:
                    taken.append(time.perf_counter() - puller.began)
                    poll.unregister(descriptor)
    return taken


def _was_compared(_state: object) -> None:
    """Every byte, as it came: `_Puller`."""


@dataclass(slots=True)
class _Idle:
    server: Server
    count: int


@contextlib.contextmanager
def _server(stage: Stage) -> Iterator[_Idle]:
    """A fresh one for each row: of what a server was before, its memory tells nothing."""
    with stage.contender.start(stage.directory) as server:
        yield _Idle(server, stage.scale.idle)


def _hold(state: _Idle, meter: Meter) -> None:
    """Each connection has had one answer, stays open, and answers once more at the end."""
    root = state.server.process.pid
    before = sum(map(resident, tree(root)))
    with contextlib.ExitStack() as stack, meter.measure(state.server, state.count):
        wires = [stack.enter_context(Wire(state.server.port)) for _ in range(state.count)]
        for wire in wires:
            _greet(wire)
        time.sleep(_QUIET)
        grown = sum(map(resident, tree(root))) - before
        for wire in wires:
            _greet(wire)
    meter.note(growth_kb=grown / 1000)


def _greet(wire: Wire) -> None:
    wire.ask("GET", "/v2/")[0].expect(200, "GET of /v2/ on a connection kept open")


ROWS = (
    Row(
        name="crowd",
        title="100 clients pull one image of ten layers at once",
        figure=Figure.P99,
        unit="1,000 pulls",
        setup=_with_image,
        run=_pull_at_once,
        verify=_was_compared,
        target=Target(ratio=0.5),
        further=((Figure.CPU, None),),
    ),
    Row(
        name="idle",
        title="1,000 idle keep-alive connections",
        figure=Figure.GROWTH,
        unit="connection",
        setup=_server,
        run=_hold,
        verify=_was_compared,
        most_rounds=3,
    ),
)
