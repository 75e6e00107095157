"""kill -9 in the middle of a request, a restart, and the client's next try (FAULTS rows 1 to 12)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.faults.content import APP, LIB, NEW, OLD, begun, closing, get, sent
from tests.faults.driver import Fault, Moment
from tests.faults.inprocess import Registry, Request
from tests.faults.remote import serving
from tests.faults.requests import DIGEST, ONLY_LIB, SCRIPTS, Script
from tests.faults.scenes import directory, scene
from tests.faults.serve import Plan
from tests.faults.storages import OnDisk
from tests.faults.system import SystemFault
from tests.support.clients import wait_for
from tests.support.images import random_bytes, sha256
from tests.support.tree import unfinished_uploads

BEFORE, AFTER = Moment.BEFORE, Moment.AFTER


def _status(method: str, path: str, status: int) -> Callable[[Registry], None]:
    def check(registry: Registry) -> None:
        sent(registry, Request(method, f"/v2/{path}"), status)

    return check


def _manifests(name: str, **expected: bytes | None) -> Callable[[Registry], None]:
    """By tag; None is absent, for GET and in the list."""

    def check(registry: Registry) -> None:
        listed = sent(registry, get(f"/v2/{name}/tags/list"), 200).json()["tags"]
        for tag, content in expected.items():
            answer = registry.send(get(f"/v2/{name}/manifests/{tag}"))
            assert (answer.content if answer.status == 200 else None) == content, str(answer)
            assert (tag in listed) == (content is not None), listed

    return check


def _both(*checks: Callable[[Registry], None]) -> Callable[[Registry], None]:
    def check(registry: Registry) -> None:
        for each in checks:
            each(registry)

    return check


@dataclass(frozen=True, slots=True)
class Row:
    """Where the process dies in the request of a script, what is to be found then, and the answer to
    the same request again.
    """

    number: str
    script: str
    fault: Fault | SystemFault
    retried: int
    found: Callable[[Registry], None] = lambda registry: None
    uploads: int | None = None
    """How many sessions are left."""

    def __str__(self) -> str:
        return f"row {self.number}"


ABSENT = _status("HEAD", f"{APP}/blobs/{DIGEST}", 404)
PRESENT = _status("HEAD", f"{APP}/blobs/{DIGEST}", 200)
ROWS = (
    Row("1", "post", Fault.die(moment=AFTER, method="write", key="/startedat"), 202, uploads=1),
    Row("2", "patch", Fault.die(moment=BEFORE, method="writer.sync"), 416, ABSENT, 1),
    Row("2, later", "patch", Fault.die(moment=AFTER, method="writer.sync"), 416, ABSENT, 1),
    Row("3", "put", Fault.die(moment=BEFORE, method="writer.publish"), 201, ABSENT, 1),
    Row(
        "3, with the rest",
        "put the rest",
        Fault.die(moment=BEFORE, method="writer.publish"),
        416,
        ABSENT,
        1,
    ),
    Row("4", "put", Fault.die(moment=AFTER, method="writer.publish"), 201, ABSENT, 1),
    Row("4, by rename", "put", SystemFault("rename", "/_uploads/", late=True), 201, ABSENT, 1),
    Row("5", "put", Fault.die(moment=AFTER, method="write", key="/_layers/"), 201, PRESENT, 1),
    Row("6", "put", SystemFault("unlink", "/startedat", late=True), 201, PRESENT, 1),
    Row("6, later", "put", SystemFault("unlink", "/hashstates/", late=True), 201, PRESENT, 1),
    Row("6, last", "put", SystemFault("rmdir", "/sha256", late=True), 201, PRESENT, 1),
    Row(
        "7",
        "push a new tag",
        Fault.die(moment=AFTER, method="write", key="/blobs/"),
        201,
        _both(_manifests(APP, new=None), _status("GET", f"{APP}/manifests/{sha256(NEW)}", 404)),
    ),
    Row(
        "8",
        "overwrite a tag",
        Fault.die(moment=AFTER, method="write", key="/revisions/"),
        201,
        _both(_manifests(APP, stable=OLD), _status("GET", f"{APP}/manifests/{sha256(NEW)}", 200)),
    ),
    Row(
        "9",
        "overwrite a tag",
        Fault.die(moment=AFTER, method="write", key="/stable/index/"),
        201,
        _manifests(APP, stable=OLD),
    ),
    Row(
        "9, of a new tag",
        "push a new tag",
        Fault.die(moment=AFTER, method="write", key="/new/index/"),
        201,
        _manifests(APP, new=None),
    ),
    Row(
        "10",
        "delete a tag",
        Fault.die(moment=AFTER, method="swap"),
        202,
        _manifests(LIB, stable=None, latest=OLD),
    ),
    Row(
        "11",
        "delete a manifest with its tags",
        Fault.die(moment=BEFORE, method="delete_many", key="/revisions/"),
        202,
        _both(
            _manifests(LIB, stable=None, latest=None),
            _status("GET", f"{LIB}/manifests/{sha256(OLD)}", 200),
        ),
    ),
    Row(
        "12",
        "mount",
        Fault.die(moment=AFTER, method="write", key="/_layers/"),
        201,
        _status("HEAD", f"{APP}/blobs/{sha256(ONLY_LIB)}", 200),
    ),
)


@pytest.fixture
def storage() -> Iterator[OnDisk]:
    with directory() as path:
        yield OnDisk(path)


def _script(name: str) -> Script:
    return next(script for script in SCRIPTS if script.name == name)


def _sessions(root: Path) -> int:
    return len(list(root.rglob("_uploads/*-*-*-*-*")))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_kill_and_the_next_try(row: Row, storage: OnDisk) -> None:
    played = scene(_script(row.script), storage)
    fault = row.fault
    plan = Plan(driver=(fault,)) if isinstance(fault, Fault) else Plan(system=(fault,))
    with serving(storage.root, plan) as registry:
        with pytest.raises(httpx.TransportError):
            registry.send(played.request)
        assert registry.server.process.wait(10) == -signal.SIGKILL
    assert storage.problems() == []
    if row.uploads is not None:
        assert _sessions(storage.root) == row.uploads
    known = played.known.copy()
    with serving(storage.root) as registry:
        assert [*known.problems(registry)] == []
        row.found(registry)
        answer = registry.send(played.request)
        assert answer.status == row.retried, str(answer)
        if played.succeeds(answer):
            played.succeeded(registry, known, answer)
        else:
            played.script.again(registry, answer)
        assert [*known.problems(registry)] == []
    assert storage.problems(played.script.removed) == []


def test_a_kill_while_bytes_come_in(storage: OnDisk) -> None:
    """Row 2, with nothing planned: what the server had taken is there, and the client goes on."""
    size = 6 * 1024 * 1024
    content = random_bytes(size, "in the middle")
    with serving(storage.root) as registry:
        location = begun(registry)

        def chunks() -> Iterator[bytes]:
            yield content[: size // 2]
            wait_for(
                lambda: sum(map(os.path.getsize, unfinished_uploads(storage.root))) > 0,
                "the server has stored a part",
            )
            registry.server.kill()
            yield content[size // 2 :]

        with pytest.raises(httpx.TransportError):
            registry.client.patch(location, content=chunks())
    (data,) = unfinished_uploads(storage.root)
    kept = data.stat().st_size
    assert data.read_bytes() == content[:kept]
    with serving(storage.root) as registry:
        status = sent(registry, get(location), 204)
        assert status.headers["range"] == f"0-{kept - 1}"
        done = closing(status.headers["location"], sha256(content), content[kept:])
        sent(registry, done, 201)
        found = sent(registry, get(f"/v2/{APP}/blobs/{sha256(content)}"), 200)
        assert found.content == content
    assert storage.problems() == []
