"""A driver in which any operation fails, is slow, or is the last thing the process does.

Every call of a method of the driver, and of the readers and writers it gave out, is a step; steps are
numbered from 1 and kept in `calls`. A fault says which step it strikes, by number or by method and key,
and whether before the step took effect or after:

    driver = FaultyDriver(inner, [Fault.fail(NoSpace("full"), method="write", key="/tags/")])
    driver = FaultyDriver(inner, [Fault.die(step=3, moment=Moment.AFTER)])

To try a failure at every step of an operation, run it once with no plan, then once for each call in
`calls`, each time on a fresh store.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from storage.driver import Anything, Child, Discarder, Driver, Leaf, ObjectInfo, Reader, Writer
from storage.driver_errors import DriverError
from storage.drivers.plain import (
    any_listed,
    leaves_by_walking,
    names_by_listing,
    read_each_leaf,
)

T = TypeVar("T")

KILLED = 137
"""The exit status of a process that a fault ended, as that of one killed by SIGKILL in a shell."""


class Moment(Enum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Call:
    """`method` is that of the driver, or `reader.` or `writer.` with theirs; several keys are joined."""

    step: int
    method: str
    key: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes which calls: all that match every condition given, or the first `times` of them."""

    moment: Moment = Moment.BEFORE
    error: DriverError | None = None
    delay: float = 0.0
    deadly: bool = False
    step: int | None = None
    method: str | None = None
    key: str = ""
    times: int | None = None

    @classmethod
    def fail(
        cls,
        error: DriverError,
        *,
        moment: Moment = Moment.BEFORE,
        step: int | None = None,
        method: str | None = None,
        key: str = "",
        times: int | None = None,
    ) -> Self:
        return cls(moment, error, step=step, method=method, key=key, times=times)

    @classmethod
    def slow(
        cls,
        seconds: float,
        *,
        moment: Moment = Moment.BEFORE,
        step: int | None = None,
        method: str | None = None,
        key: str = "",
        times: int | None = None,
    ) -> Self:
        return cls(moment, delay=seconds, step=step, method=method, key=key, times=times)

    @classmethod
    def die(
        cls,
        *,
        moment: Moment = Moment.BEFORE,
        step: int | None = None,
        method: str | None = None,
        key: str = "",
    ) -> Self:
        return cls(moment, deadly=True, step=step, method=method, key=key)

    def matches(self, call: Call) -> bool:
        return (
            self.step in (None, call.step)
            and self.method in (None, call.method)
            and self.key in call.key
        )


class FaultyDriver:
    """A `storage.driver.Driver` around another.

    `zero_copy` False hides descriptors and paths, so that every byte is read through a step.
    """

    def __init__(
        self,
        inner: Driver,
        plan: Iterable[Fault] = (),
        *,
        zero_copy: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        exit_process: Callable[[int], object] = os._exit,
    ) -> None:
        self.calls: list[Call] = []
        self.zero_copy = zero_copy
        self._inner = inner
        self._sleep = sleep
        self._exit = exit_process
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self.arm(*plan)

    def arm(self, *plan: Fault) -> None:
        """Begin anew: with this plan, and with step 1."""
        with self._lock:
            self._armed = [_Armed(fault, fault.times) for fault in plan]
            self.calls.clear()

    @contextmanager
    def step(self, method: str, key: str) -> Iterator[None]:
        """The faults of one call around its effect. A call that failed by itself has no "after"."""
        call = self._begin(method, key)
        yield
        self._strike(call, Moment.AFTER)

    def _begin(self, method: str, key: str) -> Call:
        with self._lock:
            call = Call(len(self.calls) + 1, method, key)
            self.calls.append(call)
        self._strike(call, Moment.BEFORE)
        return call

    def _strike(self, call: Call, moment: Moment) -> None:
        with self._lock:
            struck = [armed.fault for armed in self._armed if armed.strikes(call, moment)]
        for fault in struck:
            if fault.delay:
                self._sleep(fault.delay)
            if fault.deadly:
                self._exit(KILLED)
            if fault.error is not None:
                raise fault.error

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def remote(self) -> bool:
        return self._inner.remote

    def stat(self, key: str) -> ObjectInfo:
        with self.step("stat", key):
            return self._inner.stat(key)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self.step("read", key):
            return self._inner.read(key, offset=offset, length=length)

    def open(self, key: str) -> FaultyReader:
        return self._reader("open", key, self._inner.open)

    def write(self, key: str, data: bytes) -> None:
        with self.step("write", key):
            self._inner.write(key, data)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        with self.step("swap", key):
            self._inner.swap(key, data, expected=expected)

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> FaultyWriter:
        writer = None
        try:
            with self.step("writer", key):
                writer = self._inner.writer(key, create=create, state=state, final=final)
            return FaultyWriter(self, key, writer)
        except DriverError:
            if writer is not None:
                writer.close()
            raise

    def stat_growing(self, key: str) -> ObjectInfo:
        with self.step("stat_growing", key):
            return self._inner.stat_growing(key)

    def open_growing(self, key: str) -> FaultyReader:
        return self._reader("open_growing", key, self._inner.open_growing)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        """A fault after the step strikes when the last name has been given out; so for walk()."""
        call = self._begin("list", prefix)
        return self._to_the_end(call, self._inner.list(prefix, after=after))

    def has_children(self, prefix: str) -> bool:
        return any_listed(self, prefix)

    def edition(self, prefix: str) -> None:
        """Nothing tells."""

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        call = self._begin("walk", prefix)
        return self._to_the_end(call, self._inner.walk(prefix, after=after))

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        return leaves_by_walking(self, prefix, leaf)

    def names(self, prefix: str) -> Sequence[str]:
        return names_by_listing(self, prefix)

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        return read_each_leaf(self, prefix, names, leaf, length=length)

    def delete(self, key: str) -> None:
        with self.step("delete", key):
            self._inner.delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        taken = [*keys]
        with self.step("delete_many", " ".join(taken)):
            self._inner.delete_many(taken)

    def delete_tree(self, prefix: str) -> None:
        with self.step("delete_tree", prefix):
            self._inner.delete_tree(prefix)

    @property
    def discards_expire(self) -> bool:
        return self._inner.discards_expire

    def begin_discards(self, batch: str) -> None:
        with self.step("begin_discards", batch):
            self._inner.begin_discards(batch)

    def discarder(self, batch: str, *, since: float, lifetime: float) -> Discarder:
        with self.step("discarder", batch):
            return _Discarder(self, self._inner.discarder(batch, since=since, lifetime=lifetime))

    def end_discards(self, batch: str) -> None:
        with self.step("end_discards", batch):
            self._inner.end_discards(batch)

    def forget_discards(self, batch: str) -> None:
        with self.step("forget_discards", batch):
            self._inner.forget_discards(batch)

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        with self.step("recover", key):
            return self._inner.recover(key, sound)

    def abort_unfinished(self, prefix: str, *, before: float) -> int:
        with self.step("abort_unfinished", prefix):
            return self._inner.abort_unfinished(prefix, before=before)

    def prune(self, prefix: str) -> None:
        with self.step("prune", prefix):
            self._inner.prune(prefix)

    def presign(self, key: str, *, lifetime: int, patient: bool = True) -> str | None:
        with self.step("presign", key):
            return self._inner.presign(key, lifetime=lifetime, patient=patient)

    def local_path(self, key: str) -> Path | None:
        with self.step("local_path", key):
            path = self._inner.local_path(key)
        return path if self.zero_copy else None

    def immediate(self) -> Driver | None:
        """None: what a view can answer depends on the moment, and steps must not."""
        return None

    def close(self) -> None:
        self._inner.close()

    def check(self) -> None:
        with self.step("check", ""):
            self._inner.check()

    def _reader(self, method: str, key: str, opened: Callable[[str], Reader]) -> FaultyReader:
        reader = None
        try:
            with self.step(method, key):
                reader = opened(key)
            return FaultyReader(self, key, reader)
        except DriverError:
            if reader is not None:
                reader.close()
            raise

    def _to_the_end(self, call: Call, items: Iterator[T]) -> Iterator[T]:
        yield from items
        self._strike(call, Moment.AFTER)


class FaultyReader:
    def __init__(self, driver: FaultyDriver, key: str, inner: Reader) -> None:
        self._driver = driver
        self._key = key
        self._inner = inner

    @property
    def info(self) -> ObjectInfo:
        return self._inner.info

    def read_at(self, offset: int, length: int) -> bytes:
        with self._driver.step("reader.read_at", self._key):
            return self._inner.read_at(offset, length)

    def fileno(self) -> int | None:
        with self._driver.step("reader.fileno", self._key):
            return self._inner.fileno() if self._driver.zero_copy else None

    def close(self) -> None:
        """A fault makes it fail, but never leaves it open."""
        try:
            with self._driver.step("reader.close", self._key):
                self._inner.close()
        finally:
            self._inner.close()


class FaultyWriter:
    def __init__(self, driver: FaultyDriver, key: str, inner: Writer) -> None:
        self._driver = driver
        self._key = key
        self._inner = inner

    @property
    def size(self) -> int:
        return self._inner.size

    @property
    def state(self) -> str:
        return self._inner.state

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        with self._driver.step("writer.append", self._key):
            self._inner.append(chunks)

    def sync(self) -> None:
        with self._driver.step("writer.sync", self._key):
            self._inner.sync()

    def publish(self, key: str) -> None:
        with self._driver.step("writer.publish", f"{self._key} {key}"):
            self._inner.publish(key)

    def close(self) -> None:
        """A fault makes it fail, but never leaves it open."""
        try:
            with self._driver.step("writer.close", self._key):
                self._inner.close()
        finally:
            self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None

    def strikes(self, call: Call, moment: Moment) -> bool:
        if self.left == 0 or moment is not self.fault.moment or not self.fault.matches(call):
            return False
        if self.left is not None:
            self.left -= 1
        return True


class _Discarder:
    def __init__(self, driver: FaultyDriver, inner: Discarder) -> None:
        self._driver = driver
        self._inner = inner

    def discard(self, key: str) -> bool:
        with self._driver.step("discard", key):
            return self._inner.discard(key)
