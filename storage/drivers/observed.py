"""A driver around another that reports how each operation went and how long it took.

It changes nothing else: every promise of `storage/driver.py` holds if it holds for the driver inside.

    ok          the storage did what it was asked, or refused for a reason that is no fault of its
                (Conflict, Busy)
    not_found   it positively is not there
    error       everything else
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar

from storage.driver import Anything, Child, Discarder, Driver, Leaf, ObjectInfo, Reader, Writer
from storage.driver_errors import Busy, Conflict, ObjectNotFound, WouldBlock

P = ParamSpec("P")
T = TypeVar("T")

Record = Callable[[str, str, float], None]
"""Told (operation, result, seconds) after each operation, in the thread that did it; never raises."""

_REFUSALS: Final = (Conflict, Busy, GeneratorExit)


class ObservedDriver:
    """Operations are the methods' names; those of readers and writers are read_at, append, sync, publish.

    A listing counts as one operation, with the time its steps took and not its consumer; so do all the
    reads of read_leaves().
    """

    def __init__(self, inner: Driver, record: Record) -> None:
        self._inner = inner
        self._record = record

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def remote(self) -> bool:
        return self._inner.remote

    def stat(self, key: str) -> ObjectInfo:
        return _timed(self._record, "stat", self._inner.stat, key)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        read = self._inner.read
        return _timed(self._record, "read", read, key, offset=offset, length=length)

    def open(self, key: str) -> Reader:
        return _Reader(_timed(self._record, "open", self._inner.open, key), self._record)

    def write(self, key: str, data: bytes) -> None:
        _timed(self._record, "write", self._inner.write, key, data)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        _timed(self._record, "swap", self._inner.swap, key, data, expected=expected)

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> Writer:
        open_writer = self._inner.writer
        inner = _timed(
            self._record, "writer", open_writer, key, create=create, state=state, final=final
        )
        return _Writer(inner, self._record)

    def stat_growing(self, key: str) -> ObjectInfo:
        return _timed(self._record, "stat_growing", self._inner.stat_growing, key)

    def open_growing(self, key: str) -> Reader:
        inner = _timed(self._record, "open_growing", self._inner.open_growing, key)
        return _Reader(inner, self._record)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        return _listed(self._record, "list", self._inner.list, prefix, after=after)

    def has_children(self, prefix: str) -> bool:
        return _timed(self._record, "list", self._inner.has_children, prefix)

    def edition(self, prefix: str) -> Hashable | None:
        return self._inner.edition(prefix)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        return _listed(self._record, "walk", self._inner.walk, prefix, after=after)

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        return _timed(self._record, "walk", self._inner.leaves, prefix, leaf)

    def names(self, prefix: str) -> Sequence[str]:
        return _timed(self._record, "list", self._inner.names, prefix)

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        read = self._inner.read_leaves
        return _timed(self._record, "read", read, prefix, names, leaf, length=length)

    def delete(self, key: str) -> None:
        _timed(self._record, "delete", self._inner.delete, key)

    def delete_many(self, keys: Iterable[str]) -> None:
        _timed(self._record, "delete_many", self._inner.delete_many, keys)

    def delete_tree(self, prefix: str) -> None:
        _timed(self._record, "delete_tree", self._inner.delete_tree, prefix)

    @property
    def discards_expire(self) -> bool:
        return self._inner.discards_expire

    def begin_discards(self, batch: str) -> None:
        self._inner.begin_discards(batch)

    def discarder(self, batch: str, *, since: float, lifetime: float) -> Discarder:
        return self._inner.discarder(batch, since=since, lifetime=lifetime)

    def end_discards(self, batch: str) -> None:
        self._inner.end_discards(batch)

    def forget_discards(self, batch: str) -> None:
        self._inner.forget_discards(batch)

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        return _timed(self._record, "recover", self._inner.recover, key, sound)

    def abort_unfinished(self, prefix: str, *, before: float) -> int:
        abort = self._inner.abort_unfinished
        return _timed(self._record, "abort_unfinished", abort, prefix, before=before)

    def prune(self, prefix: str) -> None:
        _timed(self._record, "prune", self._inner.prune, prefix)

    def presign(self, key: str, *, lifetime: int, patient: bool = True) -> str | None:
        presign = self._inner.presign
        return _timed(self._record, "presign", presign, key, lifetime=lifetime, patient=patient)

    def local_path(self, key: str) -> Path | None:
        return _timed(self._record, "local_path", self._inner.local_path, key)

    def immediate(self) -> Driver | None:
        view = self._inner.immediate()
        return None if view is None else ObservedDriver(view, self._record)

    def close(self) -> None:
        self._inner.close()

    def check(self) -> None:
        _timed(self._record, "check", self._inner.check)


class _Reader:
    __slots__ = ("_inner", "_record")

    def __init__(self, inner: Reader, record: Record) -> None:
        self._inner = inner
        self._record = record

    @property
    def info(self) -> ObjectInfo:
        return self._inner.info

    def read_at(self, offset: int, length: int) -> bytes:
        return _timed(self._record, "read_at", self._inner.read_at, offset, length)

    def fileno(self) -> int | None:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()


class _Writer:
    __slots__ = ("_inner", "_record")

    def __init__(self, inner: Writer, record: Record) -> None:
        self._inner = inner
        self._record = record

    @property
    def size(self) -> int:
        return self._inner.size

    @property
    def state(self) -> str:
        return self._inner.state

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        _timed(self._record, "append", self._inner.append, chunks)

    def sync(self) -> None:
        _timed(self._record, "sync", self._inner.sync)

    def publish(self, key: str) -> None:
        _timed(self._record, "publish", self._inner.publish, key)

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, trace)


def _timed(
    record: Record, operation: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    begun = perf_counter()
    try:
        value = call(*args, **kwargs)
    except WouldBlock:  # not an operation yet: it is about to be asked of the driver itself
        raise
    except BaseException as error:
        record(operation, _result(error), perf_counter() - begun)
        raise
    record(operation, "ok", perf_counter() - begun)
    return value


def _listed(
    record: Record,
    operation: str,
    call: Callable[P, Iterator[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Iterator[T]:
    begun = perf_counter()
    try:
        items = call(*args, **kwargs)  # an invalid key is refused here, not at the first step
    except BaseException as error:
        record(operation, _result(error), perf_counter() - begun)
        raise
    return _steps(record, operation, items, perf_counter() - begun)


def _steps(record: Record, operation: str, items: Iterator[T], spent: float) -> Iterator[T]:
    result = "ok"
    working = True
    begun = perf_counter()
    try:
        for item in items:
            spent += perf_counter() - begun
            working = False  # the consumer has it, and may never come back
            yield item
            working = True
            begun = perf_counter()
    except BaseException as error:
        result = _result(error)
        raise
    finally:
        if working:
            spent += perf_counter() - begun
        record(operation, result, spent)


def _result(error: BaseException) -> str:
    if isinstance(error, ObjectNotFound):
        return "not_found"
    return "ok" if isinstance(error, _REFUSALS) else "error"
