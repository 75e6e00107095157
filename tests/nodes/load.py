"""What keeps nodes busy while something happens to them: clients that push an image and pull it.

How many, and how often something happens, is for the patience of who waits for it:
HOLDFAST_TEST_CLIENTS, HOLDFAST_TEST_DOCKERS (`docker push` and `docker pull`), HOLDFAST_TEST_RESTARTS
and HOLDFAST_TEST_KILLS.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.nodes.clients import Stubborn, pieces
from tests.support.balancers import Balancer
from tests.support.clients import Docker, random_files, wait_for
from tests.support.nodes import Node
from tests.support.registry import digest_of, image, some_bytes

CLIENTS = int(os.environ.get("HOLDFAST_TEST_CLIENTS", "6"))
"""A third of them slow."""
DOCKERS = int(os.environ.get("HOLDFAST_TEST_DOCKERS", "2"))
RESTARTS = int(os.environ.get("HOLDFAST_TEST_RESTARTS", "2"))
KILLS = int(os.environ.get("HOLDFAST_TEST_KILLS", "2"))

SLOWLY = 0.1
"""Seconds between the pieces of a slow push, which then takes longer than a node's draining."""
QUICK_LAYERS, SLOW_LAYERS, DOCKER_LAYER = (30_000, 100_000), (4_000_000,), 60_000


def slowly(content: bytes) -> Iterator[bytes]:
    for piece in pieces(content):
        yield piece
        time.sleep(SLOWLY)


class Load:
    """`attempts` as 1 makes every client give up at the first failure."""

    def __init__(self, front: Balancer, docker: Docker, directory: Path, attempts: int) -> None:
        self.pushed: dict[str, str] = {}
        """The digest of every manifest whose push was acknowledged, by its repository."""
        self.pulls = 0
        self.failures: list[str] = []
        """What clients met and got over."""
        self._front = front
        self._docker = docker
        self._directory = directory
        self._attempts = attempts
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self._engine = threading.Lock()
        """The engine loses what it builds on, if it removes an image at the same time."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Fails with the first client that did."""
        with ThreadPoolExecutor(CLIENTS + DOCKERS) as pool:
            doing = [pool.submit(self._client, number) for number in range(CLIENTS)]
            doing += [pool.submit(self._dockers, number) for number in range(DOCKERS)]
            try:
                yield
                self.await_more(doing)
            finally:
                self._enough.set()
            for done in doing:
                done.result(180)

    def await_more(self, doing: list[Future[None]] | None = None) -> None:
        """Until about as many images more have been pushed and pulled as there are clients."""
        served = self.pulls
        wait_for(
            lambda: self.pulls >= served + CLIENTS + DOCKERS or any(f.done() for f in doing or ()),
            "the load goes on",
            timeout=180,
        )

    def _client(self, number: int) -> None:
        slow = number % 3 == 2
        client = Stubborn(self._front.url, attempts=self._attempts)
        if slow:
            client.sending = slowly
        for name in self._rounds(f"client{number}"):
            layers = SLOW_LAYERS if slow else QUICK_LAYERS
            document = image(*map(some_bytes, layers))
            client.push(name, "1", document)
            self._acknowledged(name, document.digest)
            client.pull(name, "1", document)
            self._pulled()
        with self._lock:
            self.failures += client.failures
        client.close()

    def _dockers(self, number: int) -> None:
        docker = self._docker
        for name in self._rounds(f"docker{number}"):
            reference = f"{self._front.address}/{name}:1"
            layers = random_files(2, DOCKER_LAYER, reference)
            with self._engine:
                made = docker.build(self._directory / name.replace("/", "-"), layers, reference)
            self._command("push", reference)
            repository = reference.rpartition(":")[0]
            self._acknowledged(name, docker.repo_digest(reference, repository))
            with self._engine:
                docker.forget(reference)
            self._command("pull", reference)
            assert docker.image_id(reference) == made
            with self._engine:
                docker.forget(reference)
            self._pulled()

    def _command(self, *words: str) -> None:
        for attempt in range(1, self._attempts + 1):
            done = self._docker(*words, check=attempt == self._attempts)
            if done.code == 0:
                return
            with self._lock:
                self.failures.append(f"docker {' '.join(words)}: {done.stderr.strip()[-300:]}")

    def _rounds(self, stem: str) -> Iterator[str]:
        number = 0
        while not self._enough.is_set():
            number += 1
            yield f"load/{stem}-{number}"

    def _acknowledged(self, name: str, digest: str) -> None:
        with self._lock:
            self.pushed[name] = digest

    def _pulled(self) -> None:
        with self._lock:
            self.pulls += 1


def all_readable(node: Node, pushed: dict[str, str]) -> None:
    """Every acknowledged manifest is there by tag and by digest, and hashes right to the last blob."""
    with httpx.Client(base_url=node.url, timeout=60, follow_redirects=True) as http:
        for name, digest in pushed.items():
            tagged = http.get(f"/v2/{name}/manifests/1", headers={"Accept": "*/*"})
            assert tagged.status_code == 200, f"{name}: {tagged.text}"
            named = http.get(f"/v2/{name}/manifests/{digest}", headers={"Accept": "*/*"})
            assert named.content == tagged.content
            assert digest_of(named.content) == digest
            manifest = json.loads(named.content)
            for descriptor in (manifest["config"], *manifest["layers"]):
                wanted = descriptor["digest"]
                with http.stream("GET", f"/v2/{name}/blobs/{wanted}") as answer:
                    assert answer.status_code == 200, f"{name}: {wanted} is gone"
                    hasher = hashlib.sha256()
                    for part in answer.iter_raw(1 << 20):
                        hasher.update(part)
                assert f"sha256:{hasher.hexdigest()}" == wanted
