"""What a real server makes of a filesystem that is full, read-only, broken, slow or out of handles.

FAULTS rows 16 to 33; each ends with the cause removed, the client's next try, and a sound tree.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from storage.drivers.filesystem import FilesystemDriver
from tests.faults import inprocess
from tests.faults.content import (
    APP,
    LAYERS,
    LIB,
    NEW,
    OLD,
    Acknowledged,
    begun,
    closing,
    fill,
    get,
    manifest_put,
    push_blob,
    sent,
)
from tests.faults.driver import Fault
from tests.faults.inprocess import Answer, Registry, Request
from tests.faults.mounts import mount, tmpfs
from tests.faults.remote import Remote, configured, serving
from tests.faults.scenes import directory
from tests.faults.serve import Plan
from tests.faults.system import SystemFault
from tests.support.clients import wait_for
from tests.support.images import random_bytes, sha256
from tests.support.tree import check_tree, unfinished_uploads

MIB = 1024 * 1024
TMP = "docker/registry/v2/holdfast/tmp"
FAST_PROBE = {"health": {"storagedriver": {"interval": "100ms", "threshold": 2}}}
CONTENT = random_bytes(5 * MIB, "what does not fit")
DIGEST = sha256(CONTENT)


@pytest.fixture
def place() -> Iterator[Path]:
    with directory() as path:
        yield path


@pytest.fixture
def filled(place: Path) -> tuple[Path, Acknowledged]:
    """A tree with images in it."""
    root = place / "tree"
    return root, fill_tree(root)


def fill_tree(root: Path) -> Acknowledged:
    driver = FilesystemDriver(root)
    driver.prepare()
    with inprocess.serving(driver) as registry:
        return fill(registry)


def refused(registry: Registry, request: Request, root: Path) -> Answer:
    """The answer to a request that the storage could not do: 503, and nothing of the storage in it."""
    answer = registry.send(request)
    assert answer.status == 503, str(answer)
    assert int(answer.headers["retry-after"]) > 0
    assert [error["code"] for error in answer.json()["errors"]] == ["UNAVAILABLE"]
    for secret in (str(root), "docker/registry", "_uploads", "Errno", "ENOSPC", "No space"):
        assert secret not in answer.content.decode()
    return answer


def pulled(registry: Registry, content: bytes, name: str = APP) -> None:
    found = sent(registry, get(f"/v2/{name}/blobs/{sha256(content)}"), 200)
    assert found.content == content


def temporary(root: Path) -> list[str]:
    return os.listdir(root / TMP)


def sessions(root: Path) -> list[str]:
    return [str(path) for path in root.rglob("_uploads/*")]


class Ballast:
    """A file that takes what room there is."""

    def __init__(self, root: Path) -> None:
        self._path = root / "ballast"

    def __enter__(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            for piece in (MIB, 4096):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError:
                    continue

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


@pytest.fixture
def small(place: Path) -> Iterator[tuple[Path, Acknowledged]]:
    """A tree with images in it, on a filesystem with room for some MiB more."""
    root = place / "tree"
    with tmpfs(root, "6m"):
        yield root, fill_tree(root)


def test_a_chunk_that_does_not_fit(small: tuple[Path, Acknowledged]) -> None:
    """Row 16: what fits is kept, the status says how much, and the upload goes on when there is room."""
    root, known = small
    ballast = root / "ballast"
    ballast.write_bytes(bytes(3 * MIB))
    with serving(root) as registry:
        location = begun(registry)
        refused(registry, Request("PATCH", location, CONTENT), root)
        (data,) = unfinished_uploads(root)
        kept = data.stat().st_size
        assert MIB <= kept < 3 * MIB
        assert data.read_bytes() == CONTENT[:kept]
        assert [*known.problems(registry)] == []
        status = sent(registry, get(location), 204)
        assert status.headers["range"] == f"0-{kept - 1}"
        ballast.unlink()
        done = closing(status.headers["location"], DIGEST, CONTENT[kept:])
        sent(registry, done, 201)
        pulled(registry, CONTENT)
    assert check_tree(root) == []
    assert sessions(root) == temporary(root) == []


@pytest.mark.parametrize("how", ["put", "post"])
def test_a_whole_blob_that_does_not_fit(small: tuple[Path, Acknowledged], how: str) -> None:
    """Rows 16 and 17: nothing is left of a push that nobody can go on with."""
    root, known = small
    ballast = root / "ballast"
    ballast.write_bytes(bytes(3 * MIB))
    with serving(root) as registry:
        location = begun(registry)
        whole = Request("POST", f"/v2/{APP}/blobs/uploads/?digest={DIGEST}", CONTENT)
        request = whole if how == "post" else closing(location, DIGEST, CONTENT)
        refused(registry, request, root)
        assert len(unfinished_uploads(root)) == (how == "put")
        assert [*known.problems(registry)] == []
        sent(registry, Request("DELETE", location), 204)
        ballast.unlink()
        push_blob(registry, CONTENT)
        pulled(registry, CONTENT)
    assert check_tree(root) == []
    assert sessions(root) == temporary(root) == []


def test_writes_on_a_full_disk(small: tuple[Path, Acknowledged]) -> None:
    """Rows 17, 18 and 21: an upload, a manifest, a tag; the old tag stays, and nothing is left behind."""
    root, known = small
    with serving(root, config=FAST_PROBE) as registry:
        with Ballast(root):
            for request in (
                Request("POST", f"/v2/{APP}/blobs/uploads/"),
                manifest_put(NEW, "stable"),
                manifest_put(NEW, "new"),
                manifest_put(OLD, "other"),
                manifest_put(NEW, sha256(NEW)),
                Request("POST", f"/v2/{LIB}/fresh/blobs/uploads/?mount={sha256(LAYERS[0])}"),
            ):
                refused(registry, request, root)
            assert [*known.problems(registry)] == []
            assert sessions(root) == temporary(root) == []
            assert check_tree(root) == []
            wait_for(lambda: registry.client.get("/readyz").status_code == 503, "not ready", 20)
            assert "full" in registry.client.get("/readyz").json()["storage"]
            assert registry.client.get("/healthz").status_code == 200
        wait_for(lambda: registry.client.get("/readyz").status_code == 200, "ready again", 20)
        sent(registry, manifest_put(NEW, "stable"), 201)
        assert sent(registry, get(f"/v2/{APP}/manifests/stable"), 200).content == NEW
    assert check_tree(root) == []


def test_deletions_on_a_full_disk(small: tuple[Path, Acknowledged]) -> None:
    """Row 19."""
    root, _ = small
    with serving(root) as registry:
        location = begun(registry)
        sent(registry, Request("PATCH", location, b"some bytes"), 202)
        with Ballast(root):
            sent(registry, Request("DELETE", location), 204)
        paths = (
            f"{LIB}/manifests/other",
            f"{LIB}/manifests/{sha256(OLD)}",
            f"{LIB}/blobs/{sha256(LAYERS[0])}",
        )
        for path in paths:
            with Ballast(root):
                sent(registry, Request("DELETE", f"/v2/{path}"), 202)
                sent(registry, get(f"/v2/{path}"), 404)
                listed = sent(registry, get(f"/v2/{LIB}/tags/list"), 200).json()["tags"]
        assert listed == []
    assert check_tree(root) == []
    assert sessions(root) == []


@pytest.mark.parametrize("error", ["EDQUOT", "EFBIG", "ENOSPC"])
def test_other_ways_to_be_full(filled: tuple[Path, Acknowledged], error: str) -> None:
    """Row 21, as the quota of a user and the limit of a filesystem say it."""
    root, known = filled
    plan = Plan(system=(SystemFault("pwritev", "/_uploads/", error, skip=1, times=1),))
    with serving(root, plan) as registry:
        location = begun(registry)
        refused(registry, Request("PATCH", location, CONTENT), root)
        (data,) = unfinished_uploads(root)
        kept = data.stat().st_size
        assert 0 < kept < len(CONTENT)
        status = sent(registry, get(location), 204)
        assert status.headers["range"] == f"0-{kept - 1}"
        sent(registry, closing(status.headers["location"], DIGEST, CONTENT[kept:]), 201)
        pulled(registry, CONTENT)
        assert [*known.problems(registry)] == []
    assert check_tree(root) == []


def test_a_limit_on_the_size_of_files(filled: tuple[Path, Acknowledged]) -> None:
    """Row 21, by setrlimit(2), of which the default is a signal that kills."""
    root, known = filled
    limit = 4 * MIB
    with serving(root, Plan(limits={"FSIZE": limit})) as registry:
        location = begun(registry)
        refused(registry, Request("PATCH", location, CONTENT), root)
        assert sent(registry, get(location), 204).headers["range"] == f"0-{limit - 1}"
        assert [*known.problems(registry)] == []
    with serving(root) as registry:
        status = sent(registry, get(location), 204)
        sent(registry, closing(status.headers["location"], DIGEST, CONTENT[limit:]), 201)
        pulled(registry, CONTENT)
    assert check_tree(root) == []


def whole_or_error(registry: Remote, content: bytes) -> str:
    """How a pull of a blob ends: "whole", "cut", or the status. Never short with a clean end."""
    try:
        answer = registry.send(get(f"/v2/{APP}/blobs/{sha256(content)}"))
    except httpx.TransportError:
        return "cut"
    if answer.status == 200:
        assert answer.content == content
        return "whole"
    assert b"docker/registry" not in answer.content
    return str(answer.status)


BIG = random_bytes(3 * MIB, "read in pieces")


@pytest.mark.parametrize(
    ("fault", "zero_copy", "expected"),
    [
        (SystemFault("pread", "/blobs/", "EIO", skip=1, times=1), False, {"cut"}),
        (SystemFault("sendfile", "/blobs/", "EIO", times=1), True, {"cut"}),
        (SystemFault("open", "/blobs/", "EIO", times=1), True, {"503"}),
        (SystemFault("pread", "/blobs/", "EIO", times=1), False, {"503"}),
    ],
)
def test_a_blob_that_cannot_be_read(
    filled: tuple[Path, Acknowledged], fault: SystemFault, zero_copy: bool, expected: set[str]
) -> None:
    """Row 22."""
    root, known = filled
    with serving(root) as registry:
        push_blob(registry, BIG)
    with serving(root, Plan(system=(fault,), driver=NOTHING, zero_copy=zero_copy)) as registry:
        assert whole_or_error(registry, BIG) in expected
        assert whole_or_error(registry, BIG) == "whole"
        assert [*known.problems(registry)] == []


NOTHING = (Fault.slow(0, key="nowhere"),)


@pytest.mark.parametrize(
    ("request_of", "fault"),
    [
        (
            lambda _: manifest_put(NEW, "stable"),
            SystemFault("fsync", f"/{TMP}/", "EIO", skip=1, times=1),  # the first is the probe's
        ),
        (
            lambda _: manifest_put(NEW, "stable"),
            SystemFault("fsync", "/stable/index", "EIO", times=1),
        ),
        (
            lambda _: Request("POST", f"/v2/{APP}/blobs/uploads/"),
            SystemFault("fsync", "/_uploads/", "EIO", times=1),
        ),
        (
            lambda location: closing(location, DIGEST, CONTENT),
            SystemFault("fdatasync", "/_uploads/", "EIO", times=1),
        ),
        (
            lambda location: Request("PATCH", location, CONTENT),
            SystemFault("fdatasync", "/_uploads/", "EIO", times=1),
        ),
    ],
    ids=["bytes of a link", "names of a link", "post", "put", "patch"],
)
def test_a_sync_that_fails(
    filled: tuple[Path, Acknowledged], request_of: Callable[[str], Request], fault: SystemFault
) -> None:
    """Row 23: what was to be synced is sent again, and never believed from a second fsync."""
    root, known = filled
    known.tags[APP, "stable"].add(NEW)
    with serving(root) as registry:
        location = begun(registry)
    with serving(root, Plan(system=(fault,))) as registry:
        refused(registry, request_of(location), root)
        assert temporary(root) == []
        assert [*known.problems(registry)] == []
        if fault.call == "fdatasync":  # bytes of unknown fate are not gone on with
            sent(registry, get(location), 404)
            assert unfinished_uploads(root) == []
        push_blob(registry, CONTENT)
        pulled(registry, CONTENT)
        sent(registry, manifest_put(NEW, "stable"), 201)
        assert sent(registry, get(f"/v2/{APP}/manifests/stable"), 200).content == NEW
    assert check_tree(root) == []


@pytest.mark.parametrize("path", ["/blobs/", "/_manifests/tags/", "/_layers/"])
def test_a_stale_handle(filled: tuple[Path, Acknowledged], path: str) -> None:
    """Row 25: the first is retried by the path, and one that stays is 503 and never 404."""
    root, known = filled
    requests = {
        "/_manifests/tags/": get(f"/v2/{APP}/manifests/stable"),
        "/_layers/": get(f"/v2/{APP}/blobs/{sha256(LAYERS[0])}"),
        "/blobs/": get(f"/v2/{APP}/blobs/{sha256(LAYERS[0])}"),
    }
    for times, status in ((1, 200), (None, 503)):
        plan = Plan(system=(SystemFault("open", path, "ESTALE", times=times),))
        with serving(root, plan) as registry:
            assert registry.send(requests[path]).status == status
    with serving(root) as registry:
        assert [*known.problems(registry)] == []


@pytest.mark.parametrize(
    "fault",
    [
        SystemFault("unlink", "/startedat", "EBUSY"),
        SystemFault("rmdir", "/_uploads/", "EBUSY"),
        SystemFault("rmdir", "/_uploads/", "ENOTEMPTY"),
    ],
    ids=["busy file", "busy directory", "directory with a file held open"],
)
def test_a_session_that_does_not_go_away(
    filled: tuple[Path, Acknowledged], fault: SystemFault
) -> None:
    """Row 26: the push is done all the same, and what is left is no upload that harms."""
    root, known = filled
    with serving(root, Plan(system=(fault,))) as registry:
        push_blob(registry, CONTENT)
        pulled(registry, CONTENT)
    assert check_tree(root) == []
    with serving(root) as registry:
        pulled(registry, CONTENT)
        assert [*known.problems(registry)] == []


def test_a_read_only_filesystem(small: tuple[Path, Acknowledged]) -> None:
    """Row 27: whoever reads is served, whoever writes is told to come again."""
    root, known = small
    with serving(root, config=FAST_PROBE) as registry:
        location = begun(registry)
        answer = sent(registry, Request("PATCH", location, b"twelve bytes"), 202)
        location = answer.headers["location"]
        sent(registry, get(f"/v2/{APP}/referrers/{sha256(OLD)}"), 200)
        mount("-o", "remount,ro", root)
        assert [*known.problems(registry)] == []
        assert sent(registry, get(location), 204).headers["range"] == "0-11"
        for request in (
            Request("POST", f"/v2/{APP}/blobs/uploads/"),
            Request("PATCH", location, b"more"),
            closing(location, sha256(b"twelve bytes")),
            Request("DELETE", location),
            manifest_put(NEW, "stable"),
            Request("DELETE", f"/v2/{LIB}/manifests/stable"),
            Request("DELETE", f"/v2/{LIB}/manifests/{sha256(OLD)}"),
            Request("DELETE", f"/v2/{LIB}/blobs/{sha256(LAYERS[0])}"),
        ):
            refused(registry, request, root)
        wait_for(lambda: registry.client.get("/readyz").status_code == 503, "not ready", 20)
        assert registry.client.get("/healthz").status_code == 200
        assert [*known.problems(registry)] == []
        mount("-o", "remount,rw", root)
        wait_for(lambda: registry.client.get("/readyz").status_code == 200, "ready again", 20)
        sent(registry, closing(location, sha256(b"twelve bytes")), 201)
        pulled(registry, b"twelve bytes")
        assert [*known.problems(registry)] == []
    assert check_tree(root) == []


def test_referrers_of_a_read_only_filesystem(small: tuple[Path, Acknowledged]) -> None:
    """The first question would leave a mark; where it cannot, it is answered all the same."""
    root, known = small
    mount("-o", "remount,ro", root)
    try:
        with inprocess.serving(FilesystemDriver(root)) as registry:
            assert [*known.problems(registry)] == []
    finally:
        mount("-o", "remount,rw", root)


def test_a_repository_that_may_not_be_read(filled: tuple[Path, Acknowledged]) -> None:
    """Row 28: it is told of as unavailable, left out of the catalog, and the others are served."""
    root, known = filled
    plan = Plan(
        system=tuple(
            SystemFault(call, f"/{LIB}/", "EACCES")
            for call in ("open", "scandir", "mkdir", "rename", "unlink")
        )
    )
    with serving(root, plan) as registry:
        for request in (
            get(f"/v2/{LIB}/manifests/stable"),
            get(f"/v2/{LIB}/tags/list"),
            get(f"/v2/{LIB}/blobs/{sha256(LAYERS[0])}"),
            manifest_put(OLD, "stable", LIB),
            Request("POST", f"/v2/{LIB}/blobs/uploads/"),
        ):
            refused(registry, request, root)
        catalog = registry.send(get("/v2/_catalog"))
        assert (catalog.status, catalog.json()) == (200, {"repositories": [APP]})
        for kind in (known.blobs, known.manifests, known.tags, known.referrers):
            for key in [key for key in kind if key[0] == LIB]:
                del kind[key]
        assert [*known.problems(registry)] == []
        push_blob(registry, CONTENT)


def test_no_descriptors_are_left(filled: tuple[Path, Acknowledged]) -> None:
    """Row 29: the server may turn connections away, yet it never takes "too many" for "not there"."""
    root, known = filled
    with serving(root, Plan(limits={"NOFILE": 64}), timeout=10) as registry:
        address = ("127.0.0.1", registry.server.port)
        with ExitStack() as held:
            for _ in range(80):
                held.enter_context(socket.create_connection(address, timeout=5))
            for _ in range(20):
                try:
                    status = registry.send(get(f"/v2/{APP}/manifests/stable")).status
                except httpx.TransportError:
                    continue  # turned away
                assert status in {200, 503}
        wait_for(lambda: _answers(registry), "the server takes connections again", 20)
        assert [*known.problems(registry)] == []
        push_blob(registry, CONTENT)
        pulled(registry, CONTENT)
    assert check_tree(root) == []


def _answers(registry: Remote) -> bool:
    try:
        return registry.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_driver_without_descriptors(filled: tuple[Path, Acknowledged]) -> None:
    """Row 29, where connections are there and files are not."""
    root, known = filled
    plan = Plan(system=(SystemFault("open", "/repositories/", "EMFILE", times=6),))
    with serving(root, plan) as registry:
        for request in (
            get(f"/v2/{APP}/manifests/stable"),
            get(f"/v2/{APP}/blobs/{sha256(LAYERS[0])}"),
            manifest_put(OLD, "stable"),
            Request("DELETE", f"/v2/{APP}/manifests/stable"),
            Request("PATCH", location_of(root), b"x"),
            get(location_of(root)),
        ):
            refused(registry, request, root)
        assert [*known.problems(registry)] == []


def location_of(root: Path) -> str:
    """An upload in progress."""
    driver = FilesystemDriver(root)
    with inprocess.serving(driver) as registry:
        return begun(registry)


def test_a_slow_disk_stops_nobody_else(filled: tuple[Path, Acknowledged]) -> None:
    """Row 30: a push that waits for its disk holds up neither pulls nor the probes."""
    root, known = filled
    delay = 3.0
    plan = Plan(driver=(Fault.slow(delay, method="write", key="/_layers/"),))
    content = random_bytes(1000, "slow")
    with serving(root, plan) as registry, ThreadPoolExecutor(8) as threads:
        locations = [begun(registry) for _ in range(8)]
        started = time.monotonic()
        pushes = [
            threads.submit(registry.send, closing(location, sha256(content), content))
            for location in locations
        ]
        served = 0
        while not any(push.done() for push in pushes):
            asked = time.monotonic()
            assert registry.client.get("/healthz").status_code == 200
            assert registry.client.get("/readyz").status_code == 200
            sent(registry, get(f"/v2/{APP}/manifests/stable"), 200)
            pulled(registry, LAYERS[0])
            assert time.monotonic() - asked < delay / 2
            served += 1
        assert served >= 2
        assert {push.result().status for push in pushes} == {201}
        assert time.monotonic() - started >= delay
        pulled(registry, content)
        assert [*known.problems(registry)] == []
    assert check_tree(root) == []


@pytest.mark.parametrize(
    "beside", [TMP, "docker/registry/v2/blobs", "docker/registry/v2/repositories"]
)
def test_a_tree_of_several_filesystems_is_refused(place: Path, beside: str) -> None:
    """Row 32: at the start, in a sentence."""
    root = place / "tree"
    with tmpfs(root / beside, "1m"):
        command = [sys.executable, "-m", "registry.cli", "serve", str(configured(root, 0))]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "is on another mount than" in done.stderr
    assert "Traceback" not in done.stderr


def test_uploads_on_another_filesystem(filled: tuple[Path, Acknowledged]) -> None:
    """Row 32, where only a repository's uploads are elsewhere: seen when a blob is to be renamed."""
    root, known = filled
    uploads = root / "docker/registry/v2/repositories" / APP / "_uploads"
    with tmpfs(uploads, "8m"), serving(root) as registry:
        refused(registry, Request("POST", f"/v2/{APP}/blobs/uploads/"), root)
        assert [*known.problems(registry)] == []
        push_blob(registry, CONTENT, LIB)
    with serving(root) as registry:
        push_blob(registry, CONTENT)
        pulled(registry, CONTENT)
    assert check_tree(root) == []


def test_empty_directories_that_somebody_removes(filled: tuple[Path, Acknowledged]) -> None:
    """Row 33: a collector takes away empty parents just when files are to be made below them."""
    root, known = filled
    stop = threading.Event()
    removed = 0

    def remove() -> None:
        nonlocal removed
        while not stop.is_set():
            for empty, _, _ in os.walk(root / "docker/registry/v2", topdown=False):
                if empty.startswith(f"{root}/docker/registry/v2/holdfast"):
                    continue
                try:
                    os.rmdir(empty)
                    removed += 1
                except OSError:
                    continue

    remover = threading.Thread(target=remove)
    with serving(root) as registry:
        remover.start()
        try:
            for number in range(40):
                content = random_bytes(2000, f"raced {number}")
                push_blob(registry, content, f"{APP}/raced-{number}")
                pulled(registry, content, f"{APP}/raced-{number}")
                sent(registry, manifest_put(NEW, f"raced-{number}"), 201)
        finally:
            stop.set()
            remover.join()
        assert [*known.problems(registry)] == []
    assert removed  # how many is up to the race; that all was done in spite of them is what counts
    assert check_tree(root) == []
