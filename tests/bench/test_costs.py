"""What a request may cost, in system calls and in bytes that are copied: a gate that no clock is part of.

Each bound is what the fast way takes, with a little room; and each is tried with that way closed, when
it must be broken. The trees differ in size, and the bounds do not: no cost may grow with what is stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.bench.calls import Calls, Counting, counting, parse
from tests.bench.content import MIB, Content
from tests.bench.slowed import SLOWED
from tests.bench.small import image
from tests.bench.transfers import pull_blob, push_manifest, push_patch, push_put
from tests.bench.trees import FILES_PER_IMAGE, TreeMaker
from tests.bench.wire import Wire

pytestmark = pytest.mark.engine("strace")

REPOSITORY = "team/app"
TAG = "1"
REQUESTS = 100
LARGE = 64 * MIB


@dataclass(slots=True)
class Scene:
    """A server with an image, whose one large layer is in the page cache."""

    counting: Counting
    layer: Content
    small: Content
    manifest: bytes
    digest: str

    @property
    def port(self) -> int:
        return self.counting.server.port

    def repeated(self, method: str, path: str, body: bytes = b"") -> Calls:
        """Of REQUESTS requests on one connection, after a few that warm up."""
        with Wire(self.port) as wire:
            for _ in range(5):
                wire.ask(method, path)
            self.counting.begin()
            for _ in range(REQUESTS):
                head, got = wire.ask(method, path)
                head.expect(200, path)
                assert got == body
            return self.counting.end()

    def manifests(self, reference: str) -> Calls:
        return self.repeated("GET", f"/v2/{REPOSITORY}/manifests/{reference}", self.manifest)


@contextlib.contextmanager
def scene(directory: Path, images: int = 0, slowed: str = "") -> Iterator[Scene]:
    if images:
        TreeMaker(directory / "tree").make(images * FILES_PER_IMAGE)
    with counting(directory, {SLOWED: slowed}) as server:
        layer, small = Content(LARGE), Content(2000)
        manifest, digest = image([layer], small)
        with Wire(server.server.port) as wire:
            push_put(wire, REPOSITORY, layer)
            push_put(wire, REPOSITORY, small)
            push_manifest(wire, REPOSITORY, TAG, manifest, digest)
        # The first figures make the files of the metrics, whenever their second has come.
        httpx.get(f"{server.server.url}/metrics").raise_for_status()
        yield Scene(server, layer, small, manifest, digest)


class TooDear(AssertionError):
    """A bound is broken, and nothing else has gone wrong."""


def bounded(calls: Calls, **costs: tuple[int, int, int]) -> None:
    """Each cost is the least that there may be, what there is, and the most."""
    broken = {name: cost for name, cost in costs.items() if not cost[0] <= cost[1] <= cost[2]}
    if broken:
        raise TooDear(f"{broken}, {calls}")


def few(calls: Calls, each: int) -> None:
    """At most so many calls for each request, all on the loop; a few more may be the server's own."""
    bounded(
        calls,
        all=(0, calls.total, REQUESTS * each + REQUESTS // 2),
        in_threads=(0, calls.in_threads.total(), REQUESTS // 10),
    )


def manifest_by_digest(scene: Scene) -> None:
    few(scene.manifests(scene.digest), 5)


def manifest_by_tag(scene: Scene) -> None:
    few(scene.manifests(TAG), 8)


def blob_head(scene: Scene) -> None:
    few(scene.repeated("HEAD", f"/v2/{REPOSITORY}/blobs/{scene.layer.digest}"), 8)


def small_blob(scene: Scene) -> None:
    path = f"/v2/{REPOSITORY}/blobs/{scene.small.digest}"
    few(scene.repeated("GET", path, bytes(scene.small.slice(0))), 9)


def pull(scene: Scene) -> None:
    """By sendfile from the page cache, on the loop: no byte of it passes through the process."""
    scene.counting.begin()
    pull_blob(scene.port, REPOSITORY, scene.layer)
    calls = scene.counting.end()
    through = ("read", "recvfrom", "pread64", "preadv", "preadv2", "write", "writev", "sendto")
    bounded(
        calls,
        sent=(LARGE, calls.bytes("sendfile"), LARGE),
        copied=(0, calls.bytes(*through), MIB),
        in_threads=(0, calls.in_threads.total(), 5),
    )


def push(scene: Scene) -> None:
    """Each byte is received once and written once, nearly a MiB at a time; synced once."""
    content = Content(LARGE)
    scene.counting.begin()
    with Wire(scene.port) as wire:
        push_patch(wire, REPOSITORY, content)
    calls = scene.counting.end()
    writes = ("pwritev", "pwritev2", "pwrite64")
    bounded(
        calls,
        stored=(LARGE, calls.bytes(*writes), LARGE),
        received=(LARGE, calls.bytes("read", "recvfrom"), LARGE + MIB),
        writes=(1, calls.count(*writes), LARGE // MIB + 8),
        syncs_of_data=(1, calls.count("fdatasync"), 1),
        syncs=(1, calls.count("fsync"), 16),
    )


CHECKS = (manifest_by_digest, manifest_by_tag, blob_head, small_blob, pull, push)

CLOSED = {
    "no memory": (manifest_by_digest, manifest_by_tag, blob_head, small_blob),
    "no cache": (manifest_by_digest, manifest_by_tag),
    "no zero copy": (pull,),
    "no residency": (pull,),
    "no joined head": (small_blob,),
    "small batches": (push,),
    "synced batches": (push,),
}
"""What breaks which bounds."""


@pytest.mark.parametrize("images", [0, 300])
def test_requests_cost_what_they_may(tmp_path: Path, images: int) -> None:
    with scene(tmp_path, images) as fast:
        for check in CHECKS:
            check(fast)


@pytest.mark.parametrize("slowed", CLOSED)
def test_a_fast_way_that_is_closed_is_noticed(tmp_path: Path, slowed: str) -> None:
    checks: tuple[Callable[[Scene], None], ...] = CLOSED[slowed]
    with scene(tmp_path, slowed=slowed) as slow:
        for check in checks:
            with pytest.raises(TooDear):
                check(slow)


def test_calls_that_were_interrupted_count_once() -> None:
    calls = parse(
        "10 read(5,  <unfinished ...>\n"
        '11 pwritev(7, [{iov_base=""..., iov_len=9}], 1, 0) = 9\n'
        '10 <... read resumed>""..., 100) = 42\n'
        "10 sendfile(5, 7, NULL, 9) = -1 EAGAIN (Resource temporarily unavailable)\n"
        "10 epoll_wait(3, [], 1024, 5) = 0\n"
        "12 futex(0x7f, FUTEX_WAKE, 1) = 1\n"
        "10 write(6,  <unfinished ...>\n",
        10,
    )
    assert calls.on_loop == {"read": 1, "sendfile": 1}
    assert calls.in_threads == {"pwritev": 1}
    assert calls.bytes("read") == 42
    assert calls.bytes("sendfile") == 0
