"""Processes that take turns, in virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from greenlet import getcurrent, greenlet

from storage.collection.clock import Clock


class Dead(BaseException):
    """Unwinds what is left of a process that died; no code of ours catches it for good."""


@dataclass
class Process:
    name: str
    greenlet: greenlet
    mortal: bool = True
    steady: bool = False
    """Its requests are answered, for now: what is not promised otherwise is not what is explored."""
    dead: bool = False


@dataclass(order=True)
class _Event:
    at: float
    number: int
    action: Callable[[], None] = field(compare=False)


class Scheduler:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1_000_000.0
        self.over = False
        self.processes: list[Process] = []
        self._main = getcurrent()
        self._events: list[_Event] = []
        self._numbers = itertools.count()
        self._by_greenlet: dict[greenlet, Process] = {}

    @property
    def current(self) -> Process:
        return self._by_greenlet[getcurrent()]

    def spawn(self, name: str, run: Callable[[], None], *, mortal: bool = True) -> Process:
        def body() -> None:
            try:
                run()
            except Dead:
                pass
            process.dead = True

        process = Process(name, greenlet(body, parent=self._main), mortal)
        self._by_greenlet[process.greenlet] = process
        self.processes.append(process)
        self.at(self.now + self.random.random() * 5, lambda: self._resume(process))
        return process

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, _Event(when, next(self._numbers), action))

    def sleep(self, seconds: float) -> None:
        """Of the current process."""
        process = self.current
        self.at(self.now + max(0.0, seconds), lambda: self._resume(process))
        self._switch(process)

    def die(self) -> None:
        """The current process stops here, with nothing tidied up."""
        process = self.current
        process.dead = True
        self._switch(process)

    def run(self, until: float) -> None:
        until += self.now
        while self._events and self._events[0].at <= until:
            event = heapq.heappop(self._events)
            self.now = max(self.now, event.at)
            event.action()

    def close(self) -> None:
        """Unwind what is left, whose requests do nothing any more."""
        self.over = True
        self._events.clear()
        for process in self.processes:
            if not process.greenlet.dead:
                with suppress(Dead):  # of one that never began
                    process.greenlet.throw(Dead)

    def _resume(self, process: Process) -> None:
        if not process.dead:
            process.greenlet.switch()

    def _switch(self, process: Process) -> None:
        if self.over:
            raise Dead
        self._main.switch()
        if self.over:
            raise Dead


class SimulatedClock(Clock):
    """Of one machine; it goes a little too fast or too slowly."""

    def __init__(self, scheduler: Scheduler, drift: float) -> None:
        self._scheduler = scheduler
        self.rate = 1 + scheduler.random.uniform(-drift, drift)

    def now(self) -> float:
        return self._scheduler.now * self.rate

    def wall(self) -> float:
        return self._scheduler.now

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds / self.rate)


class Lock:
    """In place of threading.Lock, where whoever holds it may make a request."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False
        self._holder: Process | None = None

    def __enter__(self) -> None:
        while self._held and not (self._holder is not None and self._holder.dead):
            self._scheduler.sleep(0.01)
        self._held = True
        self._holder = self._scheduler.current

    def __exit__(self, *_: object) -> None:
        self._held = False
