"""Faults planted in the real code, each of which must be found: the test of the test.

Each takes out one thing that the protocol rests on.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from registry_gc import adoption, collect, judging, publishing, saved_look, sweep

from storage import layout
from storage.collection import guard, publication, view
from tests.gc.explorer.store import SimulatedStore

Plant = Callable[[], Any]


class _Serial(Executor):
    """In place of threads, which would decide the order of things behind the scheduler's back."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done

    def map(self, fn: Any, *iterables: Any, **_: Any) -> Any:
        return [fn(*args) for args in zip(*iterables, strict=True)]


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Names that are random elsewhere come from the seed here."""
    names = random.Random(seed)

    def new_run() -> str:
        return f"20260101T000000Z-{names.getrandbits(32):08x}"

    def new_id() -> uuid.UUID:
        return uuid.UUID(int=names.getrandbits(128), version=4)

    with (
        patch.object(collect, "ThreadPoolExecutor", _Serial),
        patch.object(collect, "new_run", new_run),
        patch.object(uuid, "uuid4", new_id),
    ):
        yield


@contextmanager
def planted(name: str) -> Iterator[None]:
    with MUTANTS[name]():
        yield


def _no_keep() -> Any:
    return patch.object(guard.Guard, "_keep", lambda *_: None)


def _no_wait(*, doomed: bool) -> Any:
    plain = sweep.Sweep.wait

    def wait(self: sweep.Sweep) -> None:
        if bool(self._publisher.current.doomed) != doomed:
            plain(self)

    return patch.object(sweep.Sweep, "wait", wait)


def _no_confirm() -> Any:
    """What was condemned goes, whatever the next mark says of it."""
    plain = judging.Judge.shard

    def shard(self: judging.Judge, number: int, garbage: Any) -> judging.Verdicts:
        before = self._condemned.shard(number)
        verdicts = plain(self, number, garbage)
        known = {due.entry for due in verdicts.due}
        for entry, first in before.items():
            if entry not in known and self._now - first >= self._undo:
                verdicts.due.append(sweep.Due(entry, first, 0, ()))
                verdicts.condemned.setdefault(entry, first)
        return verdicts

    return patch.object(judging.Judge, "shard", shard)


def _no_hold() -> Any:
    plain = view.View._take

    def take(self: view.View) -> view.Snapshot:
        snapshot = plain(self)
        return view.Snapshot(snapshot.taken, snapshot.wall, snapshot.filters, frozenset())

    return patch.object(view.View, "_take", take)


def _no_fence() -> Any:
    def init(self: SimulatedStore, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        self.void = False

    plain = SimulatedStore.__init__
    return patch.object(SimulatedStore, "__init__", init)


def _ack_expired() -> Any:
    return patch.object(guard.Reliance, "confirm", lambda _: None)


def _undoom_early() -> Any:
    return patch.object(sweep.Sweep, "_outlast", lambda *_: None)


@contextmanager
def _no_marker() -> Iterator[None]:
    with (
        _no_fence(),
        patch.object(publishing.Publisher, "require", lambda _: None),
        patch.object(adoption, "fence", lambda *_: None),
    ):
        yield


def _late_removal() -> Any:
    """Signed from now, rather than from the announcement; and a held-up run goes on."""
    plain = SimulatedStore.discarder

    def discarder(self: SimulatedStore, batch: str, *, since: float, lifetime: float) -> Any:
        return plain(self, batch, since=self.scheduler.now, lifetime=lifetime)

    def announce(self: sweep.Sweep, chunk: Any) -> float:
        doomed_at = self._publisher.publish(doomed=[each.entry for each in chunk])
        self.wait()
        return doomed_at

    return _all(
        patch.object(SimulatedStore, "discarder", discarder),
        patch.object(sweep.Sweep, "_announce", announce),
    )


@contextmanager
def _all(*patches: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield


def _one_state_object() -> Any:
    """Each publication overwrites the one before, so a late write brings back an old one."""

    def key(self: Any) -> str:
        return layout.publication(self.run, 1)

    def seen(self: view.View, name: Any) -> Any:
        content = publication.decode(name, self._driver.read(name.key))
        known = self._known.runs.get(name.run)
        if known is not None and known.publication == content:
            return known
        return view._Seen(content, self._clock.now())

    plain = SimulatedStore.delete_many

    def delete_many(self: SimulatedStore, keys: Any) -> None:
        """There is no older one to delete: it is the same object."""
        wanted = [*keys]
        if not (len(wanted) == 1 and wanted[0].startswith(f"{layout.PUBLICATIONS}/")):
            plain(self, wanted)

    return _all(
        patch.object(publication.Publication, "key", property(key)),
        patch.object(view.View, "_seen", seen),
        patch.object(SimulatedStore, "delete_many", delete_many),
    )


def _aged_by_the_list() -> Any:
    """An announcement stands since the list that showed it was asked for, however long that took."""
    plain_take, plain_seen = view.View._take, view.View._seen
    asked: dict[int, float] = {}

    def take(self: view.View) -> view.Snapshot:
        asked[id(self)] = self._clock.now()
        return plain_take(self)

    def seen(self: view.View, name: Any) -> Any:
        known = self._known.runs.get(name.run)
        found = plain_seen(self, name)
        if found is not known:
            found.since = asked[id(self)]
        return found

    return _all(patch.object(view.View, "_take", take), patch.object(view.View, "_seen", seen))


def _any_look() -> Any:
    """A look is gone on with whatever other runs have condemned since it began."""
    plain = saved_look.find

    def find(driver: Any, others: adoption.Others, options: Any) -> saved_look.Head:
        keeping = [each for each in others.finished if each.look]
        return plain(driver, adoption.Others(others.names, keeping[:1], []), options)

    return _all(
        patch.object(saved_look, "find", find),
        patch.object(adoption, "are_published", lambda *_: True),
    )


MUTANTS: dict[str, Plant] = {
    "no_keep": _no_keep,
    "no_wait_before_mark": lambda: _no_wait(doomed=False),
    "no_wait_after_doom": lambda: _no_wait(doomed=True),
    "no_confirm": _no_confirm,
    "no_hold": _no_hold,
    "no_fence": _no_fence,
    "ack_expired": _ack_expired,
    "undoom_early": _undoom_early,
    "no_marker": _no_marker,
    "late_removal": _late_removal,
    "one_state_object": _one_state_object,
    "aged_by_the_list": _aged_by_the_list,
    "any_look": _any_look,
}
