"""Every request, with a fault at every call that it makes to the driver (FAULTS rows 1 to 12, 16 to 18).

What must hold in each case: a success promises only what is there. Anything else is a 503 that says
nothing of the storage, and never a 404. Nothing that was acknowledged before is lost or altered, a tag
is what it was or what it was to become, and the tree at rest has no name without content. And the client
that simply tries again gets what it wanted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

from storage.driver_errors import DriverError, NoSpace, Unavailable
from tests.faults.driver import Call, Fault, FaultyDriver, Moment
from tests.faults.inprocess import Answer, Died, serving
from tests.faults.requests import SCRIPTS, Script
from tests.faults.scenes import Scene, directory, scene
from tests.faults.storages import InMemory, OnDisk, Storage

PLANNED = "a planned failure of docker/registry/v2"
SECRETS = ("docker/registry", "planned", "_uploads", "_manifests", "_layers", "Traceback", "Errno")
"""What would be in an answer that tells of the storage."""

WRITING = frozenset({"write", "swap", "writer", "writer.append", "writer.sync", "writer.publish"})
CHANGING = WRITING | {"delete", "delete_many", "delete_tree", "prune"}
READING = frozenset({"list", "open", "open_growing", "read", "stat", "stat_growing"})
HANDLES = frozenset({"reader.close", "reader.fileno", "reader.read_at", "writer.close"})


class Mode(Enum):
    FAILS = "fails before its effect"
    IS_FULL = "finds no space"
    FAILS_LATE = "fails after its effect"
    GOES_AWAY = "is the first of an outage"
    KILLS = "is the last before the process dies"

    def strikes(self, call: Call) -> bool:
        """What changes nothing has no "after", and a death before a call is one after the last."""
        if self is Mode.IS_FULL:
            return call.method in WRITING
        return call.method in CHANGING or self in {Mode.FAILS, Mode.GOES_AWAY}


@dataclass(frozen=True, slots=True)
class Case:
    call: Call
    mode: Mode

    def __str__(self) -> str:
        return f"call {self.call.step}, {self.call.method} {self.call.key}, {self.mode.value}"


def struck(storage: Storage, case: Case) -> FaultyDriver:
    """The driver of a process in which a call fails."""

    def end(_: float) -> None:
        driver.arm(Fault.fail(Unavailable(PLANNED)))

    def die(_: int) -> None:
        driver.arm(Fault.die())  # a dead process makes no more calls, not even to tidy up
        raise Died

    error: DriverError = NoSpace(PLANNED) if case.mode is Mode.IS_FULL else Unavailable(PLANNED)
    step = case.call.step
    fault = {
        Mode.FAILS: Fault.fail(error, step=step),
        Mode.IS_FULL: Fault.fail(error, step=step),
        Mode.FAILS_LATE: Fault.fail(error, step=step, moment=Moment.AFTER),
        Mode.GOES_AWAY: Fault(error=error, delay=1, step=step),
        Mode.KILLS: Fault.die(step=step, moment=Moment.AFTER),
    }[case.mode]
    driver = FaultyDriver(storage.open(), [fault], zero_copy=False, sleep=end, exit_process=die)
    return driver


def calls_of(played: Scene) -> list[Call]:
    """Those of the request when nothing fails; that it does what it promises is checked too."""
    storage = played.storage.copy(0)
    driver = FaultyDriver(storage.open(), zero_copy=False)
    with serving(driver) as registry:
        driver.arm()
        answer = registry.send(played.request)
        calls = list(driver.calls)
        assert played.succeeds(answer), f"{played.script}: {answer}"
        played.succeeded(registry, played.known.copy(), answer)
    storage.discard()
    return calls


def play(played: Scene, case: Case, storage: Storage) -> Iterator[str]:
    """What goes wrong in the case, a sentence each. Raises AssertionError for what else does."""
    known, removed = played.known.copy(), played.script.removed
    driver = struck(storage, case)
    alive = True
    with serving(driver) as registry:
        try:
            answer = registry.send(played.request)
        except Died:
            alive = False
            storage.abandon()
        if alive:
            driver.arm()
            yield from wrong(answer, played.script)
            yield from storage.problems(removed)
            yield from known.problems(registry)
            if played.succeeds(answer):
                played.succeeded(registry, known, answer)
            else:
                played.retry(registry, known)
    with serving(storage.open()) as registry:
        yield from known.problems(registry)
        if not alive:
            yield from storage.problems(removed)
            played.retry(registry, known)
            yield from known.problems(registry)
    yield from storage.problems(removed)


def wrong(answer: Answer, script: Script) -> Iterator[str]:
    """What is wrong with the answer to a request in which the storage failed."""
    if answer.status == script.success:  # one that is not whole is cut by the server
        return
    if answer.status != 503:
        yield f"the answer is {answer}"
        return
    if not answer.headers.get("retry-after", "").isdecimal():
        yield f"there is no Retry-After in {answer.headers}"
    text = answer.content.decode()
    yield from (f"{secret} is told in {text}" for secret in SECRETS if secret in text)
    codes = [error["code"] for error in json.loads(text)["errors"]]
    if codes != ["UNAVAILABLE"]:
        yield f"the codes are {codes}"


def outcome(played: Scene, case: Case, number: int) -> list[str]:
    storage = played.storage.copy(number)
    try:
        return [f"{case}: {problem}" for problem in play(played, case, storage)]
    except AssertionError as error:
        return [f"{case}: {error}"]
    finally:
        storage.discard()


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No power is lost here, and thousands of planned failures are nothing to read."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    logger = logging.getLogger("holdfast")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.fixture(params=[OnDisk, InMemory], ids=["filesystem", "memory"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    make: Callable[[Path], Storage] = request.param
    with directory() as path:
        yield make(path)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_every_call_fails_in_every_way(script: Script, storage: Storage) -> None:
    played = scene(script, storage)
    cases = [Case(call, mode) for call in calls_of(played) for mode in Mode if mode.strikes(call)]
    assert cases
    problems = [
        problem
        for number, case in enumerate(cases, start=1)
        for problem in outcome(played, case, number)
    ]
    assert not problems, "\n".join([f"{len(cases)} cases of {script}", *problems])


def test_every_method_is_called_by_some_request(tmp_path: Path) -> None:
    """What is left out serves the start of the process, the purge and the probe."""
    methods = set()
    for number, script in enumerate(SCRIPTS):
        storage = InMemory(tmp_path / str(number))
        methods |= {call.method for call in calls_of(scene(script, storage))}
    assert methods == CHANGING | READING | HANDLES
