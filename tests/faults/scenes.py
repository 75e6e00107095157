"""A script set up on a storage: the moment before its request."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.content import Acknowledged, fill
from tests.faults.inprocess import Answer, Registry, Request, serving
from tests.faults.requests import Script
from tests.faults.storages import Storage

_MEMORY = Path("/dev/shm")


@contextmanager
def directory() -> Iterator[Path]:
    """A directory in memory, where there is some: to make one costs a disk half a millisecond."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="holdfast-test-", dir=place) as path:
        yield Path(path)


@dataclass(frozen=True, slots=True)
class Scene:
    """`known` is what clients were told so far, less what the request may change."""

    script: Script
    storage: Storage
    known: Acknowledged
    url: str

    @property
    def request(self) -> Request:
        return self.script.ask(self.url)

    def succeeds(self, answer: Answer) -> bool:
        return answer.status == self.script.success and answer.whole

    def succeeded(self, registry: Registry, known: Acknowledged, answer: Answer) -> None:
        """What the answer promises is there, and known from now on. Raises AssertionError."""
        self.script.settle(known)
        self.script.effect(registry, answer)

    def retry(self, registry: Registry, known: Acknowledged) -> None:
        """Send the request again, as clients do, and see to it that they get what they wanted."""
        answer = registry.send(self.request)
        if self.succeeds(answer):
            self.succeeded(registry, known, answer)
            return
        tolerated = answer.status in self.script.tolerated
        assert tolerated, f"the same request again was answered {answer}"
        self.script.again(registry, answer)


def scene(script: Script, storage: Storage) -> Scene:
    with serving(storage.open()) as registry:
        known = fill(registry)
        url = script.prepare(registry)
    script.loosen(known)
    return Scene(script, storage, known, url)
