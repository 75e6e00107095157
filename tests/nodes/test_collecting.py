"""Garbage is collected again and again under pushes, pulls and deletions, while everything is killed.

Bounded here; HOLDFAST_SOAK_SECONDS makes it as long as one likes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.nodes.clients import Stubborn
from tests.nodes.conftest import BOTH_WAYS, Balancing, Placing, sound
from tests.nodes.operator import QUICK, Operator
from tests.support.clients import CommandFailed, Docker, Skopeo, random_files
from tests.support.nodes import Node, nodes
from tests.support.registry import CONFIG, Blob, Document, image, index

SECONDS = float(os.environ.get("HOLDFAST_SOAK_SECONDS", "45"))
CLIENTS = 4
KEPT = 4
LAYERS = [random.Random(number).randbytes(20_000 + number) for number in range(10)]
A_KILL_EVERY = 6.0


def an_image(choose: random.Random, name: str) -> Document:
    """Its layers are shared by many, and so are garbage now and then; its config by few."""
    layers = choose.sample(LAYERS, 2)
    return image(*layers, config=Blob(json.dumps({"for": name}).encode(), CONFIG))


@dataclass
class Load:
    """Clients, each with repositories of its own and layers that are everybody's."""

    url: str
    over: threading.Event = field(default_factory=threading.Event)
    held: dict[str, Document] = field(default_factory=dict)
    """What was acknowledged and not deleted, by `repository:tag`."""
    met: list[str] = field(default_factory=list)
    pulls: int = 0

    def run(self, number: int) -> None:
        choose, client = random.Random(number), Stubborn(self.url, attempts=40)
        mine: list[str] = []
        rounds = 0
        try:
            while not self.over.is_set():
                rounds += 1
                name, tag = f"soak/{number}/{choose.randrange(3)}", f"v{rounds}"
                is_index = rounds % 3 == 0
                # No image is also the child of an index: to delete that is a user's own mistake.
                document = an_image(choose, "index" if is_index else f"{number % 2}")
                if is_index:
                    client.push(name, f"child-{rounds}", document)
                    document = index(document)
                client.push(name, tag, document)
                self.held[f"{name}:{tag}"] = document
                mine.append(f"{name}:{tag}")
                self._pull(client, choose.choice(mine))
                if len(mine) > KEPT:
                    self._delete(client, mine.pop(choose.randrange(len(mine))))
        finally:
            self.met += client.failures
            client.close()

    def pull_all(self) -> None:
        client = Stubborn(self.url, attempts=1)
        for reference in self.held:
            self._pull(client, reference)
        client.close()

    def _pull(self, client: Stubborn, reference: str) -> None:
        name, _, tag = reference.rpartition(":")
        client.pull(name, tag, self.held[reference])
        self.pulls += 1

    def _delete(self, client: Stubborn, reference: str) -> None:
        """The tag and, where no other of this client's names it, the manifest."""
        name, _, tag = reference.rpartition(":")
        document = self.held.pop(reference)
        others = [each for key, each in self.held.items() if key.startswith(f"{name}:")]
        what = tag if document.digest in [each.digest for each in others] else document.digest
        client.delete(name, what)


class Collector:
    """`registry-gc --now`, over and over; killed now and then."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._process: subprocess.Popen[str] | None = None
        self.removed = 0
        self.ended: list[int] = []
        self.output: list[str] = []

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            self.once()

    def once(self) -> None:
        options = ["--now", "--min-age", "0", "--wait", "--force"]
        self._process = self._operator.start_gc(*options, "--output", "json")
        out, problems = self._process.communicate(timeout=180)
        self.ended.append(self._process.returncode)
        if self._process.returncode >= 0:
            self.output.append(problems)
            self.removed += json.loads(out)["blobs_removed"]

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


def kill_now_and_then(both: list[Node], collector: Collector, over: threading.Event) -> None:
    choose = random.Random(1)
    while not over.wait(A_KILL_EVERY * choose.uniform(0.5, 1.5)):
        if choose.random() < 0.3:
            collector.kill()
            continue
        node = choose.choice(both)
        node.kill()
        node.start()


@pytest.mark.timeout(SECONDS * 4 + 600)
@pytest.mark.parametrize(("balancer", "kind"), BOTH_WAYS)
def test_nothing_acknowledged_is_lost_and_garbage_goes(
    balancer: str,
    kind: str,
    placing: Placing,
    balancing: Balancing,
    skopeo: Skopeo,
    docker: Docker,
    tmp_path: Path,
) -> None:
    storage = placing(kind)
    operator = Operator.of(storage, **QUICK)
    with nodes(storage, **QUICK) as both:
        load = Load(balancing(balancer, both).url)
        collector = Collector(operator)
        with ThreadPoolExecutor(CLIENTS + 4) as pool:
            running = [pool.submit(load.run, number) for number in range(CLIENTS)]
            running.append(pool.submit(collector.run, load.over))
            running.append(pool.submit(kill_now_and_then, both, collector, load.over))
            running.append(pool.submit(copy_again_and_again, skopeo, load))
            running.append(pool.submit(build_again_and_again, docker, load, tmp_path))
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends and not any(each.done() for each in running):
                time.sleep(0.2)
            load.over.set()
            for each in running:
                each.result()
        load.pull_all()
        assert not [each for each in load.met if "MANIFEST_BLOB_UNKNOWN" in each]
        assert not [each for each in load.met if each.startswith("pull") and " 404" in each]
        for _ in range(2):
            collector.once()
        assert collector.ended[-1] == 0, collector.output[-1]
        load.pull_all()
        assert load.pulls > 20
        assert collector.removed > 10
        looked = operator.fsck("--scrub", check=False)
        assert looked.code == 0, looked.text
        assert "0 problems" in looked.stdout
    sound(storage, *both)


def again(command: Callable[[], object], attempts: int = 8) -> None:
    """As a job of CI is run again: engines give up when a node is killed once too often.

    That something is not there is no such failure.
    """
    for left in reversed(range(attempts)):
        try:
            command()
            return
        except CommandFailed as failure:
            if left == 0 or "unknown" in str(failure).lower().replace("_", " "):
                raise
        time.sleep(1.0)


def copy_again_and_again(skopeo: Skopeo, load: Load) -> None:
    """A real client, with retries of its own, which pushes what others have made garbage of."""
    place = load.url.removeprefix("http://")
    document = an_image(random.Random(99), "skopeo")
    seed = Stubborn(load.url, attempts=40)
    seed.push("soak/seed", "1", document)
    load.held["soak/seed:1"] = document
    seed.close()
    rounds = 0
    while not load.over.is_set():
        rounds += 1
        source, target = f"docker://{place}/soak/seed:1", f"soak/copies:{rounds % 3}"
        again(partial(skopeo.copy, source, f"docker://{place}/{target}", "--retry-times", "10"))
        load.held[target] = document


def build_again_and_again(docker: Docker, load: Load, directory: Path) -> None:
    """Pushes an image, pulls it back, and deletes it; some of its layers are always the same."""
    reference = f"{load.url.removeprefix('http://')}/soak/docker"
    client = Stubborn(load.url, attempts=40)
    shared, rounds = random_files(2, 50_000, "soak"), 0
    while not load.over.is_set():
        rounds += 1
        tag = f"{reference}:{rounds}"
        own = random_files(1, 20_000, f"soak-{rounds}")
        built = docker.build(directory / f"{rounds}", [*shared, *own], tag)
        again(partial(docker, "push", "-q", tag))
        docker.forget(built)
        again(partial(docker, "pull", "-q", tag))
        pulled = docker.repo_digest(tag, reference)
        docker.forget(tag)
        client.delete("soak/docker", pulled)
    load.met += client.failures
    client.close()
    assert rounds > 1
