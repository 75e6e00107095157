"""One seed: nodes, clients and runs of the collector, and the oracle that watches them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from unittest.mock import patch

from registry_gc.collect import _Run, collect
from registry_gc.options import Options
from registry_gc.outcome import CollectionStopped
from registry_gc.report import Report

from storage import layout
from storage.collection.guard import Guard
from storage.collection.timing import Timing
from storage.driver_errors import DriverError
from storage.model.digest import Digest
from storage.model.errors import BlobUnknown, Doomed, RegistryError
from storage.model.reference import RepositoryName, Tag
from storage.repository import Repository, Store
from tests.gc.explorer.scheduler import Lock, Scheduler, SimulatedClock
from tests.gc.explorer.store import Faults, SimulatedStore

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DRIFT = 0.02
TIMING = Timing(view=20, section=20, lag=2, send=15, margin=20, drift=DRIFT)
REPOSITORIES = [RepositoryName("x"), RepositoryName("y")]
TAGS = [Tag("t1"), Tag("t2")]
LAYERS = [b"layer %d" % number for number in range(4)]
CONFIG = b"{}"
DOOM_PATIENCE = 50.0


class Violation(Exception):
    """Something of an acknowledged manifest is gone."""


@dataclass(frozen=True)
class Setting:
    expiring: bool = True
    untagged: bool = False
    harsh: float = 1.0
    lost_discards: float = 0.05
    undo: float = 120.0
    minimum_age: float = 60.0
    seconds: float = 2000.0
    operations: int = 30
    clients: int = 3
    budgets: bool = False
    """Whether runs are given so little time that few get through a look, and keep what they have found."""


@dataclass(frozen=True)
class Acknowledged:
    """A manifest, and the keys that must be there while it is."""

    needs: frozenset[str]
    children: tuple[Digest, ...]


@dataclass
class Oracle:
    """What was promised to clients. A manifest that is being deleted, or a tag written, is not."""

    live: dict[tuple[RepositoryName, Digest], Acknowledged] = field(default_factory=dict)
    tags: dict[tuple[RepositoryName, Tag], Digest] = field(default_factory=dict)
    deleting: dict[tuple[RepositoryName, Digest], int] = field(default_factory=dict)
    deleted: dict[tuple[RepositoryName, Digest], float] = field(default_factory=dict)

    def guaranteed(self, untagged: bool) -> Iterator[tuple[RepositoryName, Digest]]:
        if not untagged:
            yield from self.live
            return
        pending = [(name, digest) for (name, _), digest in self.tags.items()]
        seen = set()
        while pending:
            each = pending.pop()
            if each in seen or each not in self.live:
                continue
            seen.add(each)
            yield each
            pending += [(each[0], child) for child in self.live[each].children]


class Node:
    """One of several; each has its own view of the collector's state."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = SimulatedClock(world.scheduler, DRIFT)
        self.guard = Guard(world.store, TIMING, self.clock)
        self.guard._view._lock = Lock(world.scheduler)  # type: ignore[assignment] # it takes turns
        self.store = Store(world.store, guard=self.guard)

    def repository(self, name: RepositoryName) -> Repository:
        return self.store.repository(name)

    def undoomed(self, operation: Callable[[], object]) -> None:
        """As the handlers do it, Call.run_undoomed()."""
        patience = self.world.scheduler.now + DOOM_PATIENCE
        while True:
            try:
                operation()
                return
            except Doomed:
                self.world.store.count("hold")
                if self.world.scheduler.now > patience:
                    raise
            self.world.scheduler.sleep(1.0)


class World:
    def __init__(self, seed: int, setting: Setting) -> None:
        self.setting = setting
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.oracle = Oracle()
        faults = replace(Faults(), lost_discards=setting.lost_discards).times(setting.harsh)
        self.store = SimulatedStore(
            self.scheduler, faults, self._removed, self._moved, expiring=setting.expiring
        )
        self.nodes = [Node(self) for _ in range(3)]
        self.children: set[Digest] = set()

    def run(self) -> dict[str, int]:
        """Raises Violation."""
        for number in range(self.setting.clients):
            self._spawn_client(number)
        self.scheduler.spawn("cron", self._cron, mortal=False)
        try:
            self.scheduler.run(self.setting.seconds)
        finally:
            self.scheduler.close()
        for each in self.oracle.guaranteed(self.setting.untagged):
            for key in self.oracle.live[each].needs:
                if not self.store.has(key):
                    raise self._lost(each, key)
        return self.store.counts

    def acknowledge(
        self,
        name: RepositoryName,
        digest: Digest,
        tag: Tag | None,
        body: Iterable[Digest],
        children: tuple[Digest, ...],
        begun: float,
    ) -> None:
        self.store.count("ack")
        oracle, each = self.oracle, (name, digest)
        if oracle.deleting.get(each) or oracle.deleted.get(each, -1.0) >= begun:
            return  # a deletion by a user overlaps: either order is right
        blobs = [*body]
        needs = {layout.revision(name, digest), layout.blob(digest)}
        needs |= {layout.blob(blob) for blob in blobs} | {layout.layer(name, b) for b in blobs}
        for child in children:
            needs |= {layout.revision(name, child), layout.blob(child)}
        oracle.live[each] = Acknowledged(frozenset(needs), children)
        for key in needs:
            if not self.store.has(key):
                raise self._lost(each, key)
        if tag is not None:
            key = layout.tag_current(name, tag)
            if self.store.content(key) == str(digest).encode():
                oracle.tags[name, tag] = digest  # else a later push of the tag has won

    def _removed(self, key: str) -> None:
        if key.startswith(f"{layout.COLLECTION}/"):
            return
        for each in self.oracle.guaranteed(self.setting.untagged):
            if key in self.oracle.live[each].needs:
                raise self._lost(each, key)

    def _moved(self, key: str, content: bytes) -> None:
        """By a push that may never be acknowledged, having begun before the last one that was."""
        for (name, tag), digest in [*self.oracle.tags.items()]:
            if key == layout.tag_current(name, tag) and content != str(digest).encode():
                del self.oracle.tags[name, tag]

    def _lost(self, each: tuple[RepositoryName, Digest], key: str) -> Violation:
        name, digest = each
        return Violation(f"{name}@{digest} was acknowledged and lost {key} at {self.scheduler.now}")

    def _spawn_client(self, number: int) -> None:
        self.scheduler.spawn(f"client-{number}", lambda: self._client(self.setting.operations))

    def _cron(self) -> None:
        """Starts runs of the collector, at times two at once, and clients in place of dead ones."""
        number = 0
        while True:
            alive = [p for p in self.scheduler.processes if not p.dead]
            # Two runs at once have no use for each other's looks.
            most = 1 if self.setting.budgets and number % 4 else 2
            if sum(p.name.startswith("gc") for p in alive) < most and self.random.random() < 0.5:
                number += 1
                self.scheduler.spawn(f"gc-{number}", self._collect)
            if sum(p.name.startswith("client") for p in alive) < self.setting.clients:
                self._spawn_client(number)
            self.scheduler.sleep(self.random.choice([5, 30, 60]))

    def _collect(self) -> None:
        clock = SimulatedClock(self.scheduler, DRIFT)
        plain = clock.sleep

        def sleep(seconds: float) -> None:
            """The machine may be suspended while the run waits."""
            plain(seconds + (self.random.random() * 300 if self.random.random() < 0.05 else 0))

        clock.sleep = sleep  # type: ignore[method-assign]
        options = Options(
            minimum_age=self.setting.minimum_age,
            undo=self.setting.undo,
            untagged=0.0 if self.setting.untagged else None,
            uploads=1e9,
            alone=False,
            force=True,
            chunk=4,
            timing=TIMING,
            clock=clock,
        )
        if self.setting.budgets:
            budget = self.random.choice([0.0, 60.0, 90.0, 150.0, 400.0])
            options = replace(options, max_duration=budget)
        report = Report()
        try:
            collect(self.store, options, report)
            self.store.count("run")
        except (CollectionStopped, DriverError) as error:
            self.store.count(f"run ended by {type(error).__name__}")
        if report.went_on:
            self.store.count("went on")

    def _client(self, operations: int) -> None:
        random = self.random
        for _ in range(operations):
            name, tag, chance = (
                random.choice(REPOSITORIES),
                random.choice([*TAGS, None]),
                random.random(),
            )
            try:
                if chance < 0.55:
                    self._push_image(name, tag, random.sample(LAYERS, random.randint(1, 2)))
                elif chance < 0.75:
                    self._push_index(name, tag or TAGS[0])
                else:
                    self._delete(name)
            except (RegistryError, DriverError):
                self.store.count("refused")
            self.scheduler.sleep(random.choice([1, 5, 40, 120]) * random.random())

    def _push_image(
        self, name: RepositoryName, tag: Tag | None, layers: Iterable[bytes], note: str = ""
    ) -> Digest:
        chosen = sorted(layers)
        descriptors = [
            {"mediaType": "application/octet-stream", "digest": str(Digest.of(b)), "size": len(b)}
            for b in (CONFIG, *chosen)
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": descriptors[0],
            "layers": descriptors[1:],
            "annotations": {"note": note},
        }
        for attempt in range(4):
            try:
                for blob in (CONFIG, *chosen):
                    self._ensure(name, blob)
                if self.random.random() < 0.2:
                    self.scheduler.sleep(self.random.choice([1, 30, 200]) * self.random.random())
                blobs = [Digest.of(b) for b in (CONFIG, *chosen)]
                if note:
                    self.children.add(Digest.of(json.dumps(document).encode()))
                return self._put(name, tag, IMAGE, document, blobs, ())
            except (RegistryError, DriverError):
                if attempt == 3:
                    raise
            self.scheduler.sleep(self.random.random() * 3)
        raise AssertionError

    def _push_index(self, name: RepositoryName, tag: Tag) -> None:
        children = [
            self._push_image(name, None, [self.random.choice(LAYERS)], note="child")
            for _ in range(2)
        ]
        every = sorted(set(children), key=str)
        document = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                {"mediaType": IMAGE, "digest": str(c), "size": self._size(c)} for c in every
            ],
        }
        self._put(name, tag, INDEX, document, (), tuple(every))

    def _size(self, digest: Digest) -> int:
        """A client knows what it has pushed."""
        return len(self.store.content(layout.blob(digest)) or b"")

    def _ensure(self, name: RepositoryName, content: bytes) -> None:
        digest = Digest.of(content)
        if self._head(name, digest):
            return
        if self.random.random() < 0.3:
            node, source = self.random.choice(self.nodes), self.random.choice(REPOSITORIES)
            try:
                node.repository(name).blobs.mount(digest, node.repository(source).blobs)
                return
            except (BlobUnknown, Doomed):
                pass
        progress = self.random.choice(self.nodes).repository(name).uploads.start()
        node = self.random.choice(self.nodes)
        uploads = node.repository(name).uploads
        with uploads.resume(progress, digest) as session:
            session.append([content])
            node.undoomed(lambda: uploads.commit(session, digest))

    def _head(self, name: RepositoryName, digest: Digest) -> bool:
        """As the handler of HEAD does it."""
        node = self.random.choice(self.nodes)
        try:
            node.repository(name).blobs.stat(digest)
        except BlobUnknown:
            return False
        entry = f"B:{digest}"
        return not (node.guard.may_be_going(entry) and node.guard.is_going(entry))

    def _put(
        self,
        name: RepositoryName,
        tag: Tag | None,
        media_type: str,
        document: dict[str, object],
        blobs: Iterable[Digest],
        children: tuple[Digest, ...],
    ) -> Digest:
        content = json.dumps(document).encode()
        digest, begun = Digest.of(content), self.scheduler.now
        node = self.random.choice(self.nodes)
        if tag is not None:
            self.oracle.tags.pop((name, tag), None)  # from here on its old target is not promised

        def put() -> None:
            node.repository(name).manifests.put(content, media_type, tag or digest)

        node.undoomed(put)
        self.acknowledge(name, digest, tag, blobs, children, begun)
        return digest

    def _delete(self, name: RepositoryName) -> None:
        """Never the child of an index: a user who does that breaks it knowingly."""
        oracle = self.oracle
        free = sorted((d for n, d in oracle.live if n == name and d not in self.children), key=str)
        if not free:
            return
        digest = self.random.choice(free)
        each = name, digest
        oracle.live.pop(each, None)
        oracle.deleting[each] = oracle.deleting.get(each, 0) + 1
        for key in [key for key, target in oracle.tags.items() if (key[0], target) == each]:
            del oracle.tags[key]
        process = self.scheduler.current
        process.steady = True
        try:
            self.random.choice(self.nodes).repository(name).manifests.delete(digest)
        finally:
            process.steady = False
            oracle.deleting[each] -= 1
            oracle.deleted[each] = self.scheduler.now


def explore(seed: int, setting: Setting) -> dict[str, int]:
    """What happened how often. Raises Violation.

    Looks that are not finished are kept where runs are short, so that the seeds of all else stay what
    they were.
    """
    keeping = nullcontext() if setting.budgets else patch.object(_Run, "_kept_look", lambda _: "")
    with keeping:
        return World(seed, setting).run()
