"""The power fails at every system call of every request (FAULTS row 15).

What was acknowledged must be there however much or little the disk has kept beyond what fsync promised;
of what was not, no name without content, and the client that tries again gets what it wanted.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storage.drivers import filesystem, growing, tree, walking
from tests.faults.inprocess import Answer, serving
from tests.faults.power import BYTES, NAMES, PROMISED, Kept, Power, Tree, restore, watching
from tests.faults.requests import SCRIPTS, Script
from tests.faults.scenes import Scene, directory, scene
from tests.faults.storages import OnDisk


def by_chance(seed: int) -> Kept:
    chance = random.Random(seed)
    return lambda kind: chance.random() < 0.5


@dataclass
class Cuts:
    """What the disk may hold after a cut of the power, each different state once."""

    power: Power
    states: list[Tree] = field(default_factory=list)

    def note(self) -> None:
        for kept in (PROMISED, NAMES, BYTES, by_chance(len(self.states))):
            state = self.power.cut(kept)
            if state not in self.states[-8:]:
                self.states.append(state)


def after_cut(played: Scene, state: Tree, answer: Answer | None, path: Path) -> Iterator[str]:
    """What is wrong after a restart on what is left, with the answer if there was one by then."""
    storage, known, removed = OnDisk(path), played.known.copy(), played.script.removed
    restore(state, storage.root)
    with serving(storage.open()) as registry:
        yield from storage.problems(removed)
        if answer is not None:
            played.succeeded(registry, known, answer)
        yield from known.problems(registry)
        if answer is None:
            played.retry(registry, known)
            yield from known.problems(registry)
    yield from storage.problems(removed)
    storage.discard()


def outcome(played: Scene, state: Tree, answer: Answer | None, path: Path) -> list[str]:
    when = "before the answer" if answer is None else "after it"
    try:
        return [f"{when}: {problem}" for problem in after_cut(played, state, answer, path)]
    except AssertionError as error:
        return [f"{when}: {error}"]


def play(
    script: Script, path: Path, during: AbstractContextManager[None] | None = None
) -> tuple[int, list[str]]:
    """How many different disks came of it, and what is wrong with them.

    `during` is entered for the request, not for what leads to it.
    """
    storage = OnDisk(path / "watched")
    with watching(storage.root) as power:
        played = scene(script, storage)
        before, after = Cuts(power), Cuts(power)
        with serving(storage.open()) as registry, during or nullcontext():
            power.on_change = before.note
            answer = registry.send(played.request)
            power.on_change = lambda: None
        after.note()
        storage.abandon()
    assert played.succeeds(answer), str(answer)
    cuts = [(state, None) for state in before.states] + [(state, answer) for state in after.states]
    problems = [
        problem
        for number, (state, said) in enumerate(cuts)
        for problem in outcome(played, state, said, path / str(number))
    ]
    return len(cuts), problems


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("holdfast")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_the_power_fails_at_every_system_call(script: Script) -> None:
    with directory() as path:
        number, problems = play(script, path)
    assert not problems, "\n".join([f"{number} cuts of the power in {script}", *problems])


def _find(name: str) -> Script:
    return next(script for script in SCRIPTS if script.name == name)


@contextmanager
def forgetting(what: str) -> Iterator[None]:
    """A driver that leaves out a sync."""

    def forget(writer: growing.GrowingFile) -> None:
        writer._appended = False

    with pytest.MonkeyPatch.context() as patch:
        if what == "bytes":
            patch.setattr(growing.GrowingFile, "sync", forget)
        else:
            for module in (filesystem, growing, tree, walking):
                patch.setattr(module, "sync_directories", lambda _: None)
        yield


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("post", "names"),
        ("patch", "names"),
        ("patch", "bytes"),
        ("post the whole blob", "names"),
        ("post the whole blob", "bytes"),
        ("mount", "names"),
        ("push a new tag", "names"),
        ("overwrite a tag", "names"),
        ("delete a tag", "names"),
        ("delete a blob", "names"),
    ],
)
def test_a_forgotten_sync_is_found(name: str, what: str) -> None:
    script = next(script for script in SCRIPTS if script.name == name)
    with directory() as path:
        _, problems = play(script, path, forgetting(what))
    assert problems
