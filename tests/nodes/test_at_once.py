"""Two nodes that are asked for the same things at the same moment, and what else works on their storage."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from tests.nodes.conftest import NETWORKED
from tests.nodes.operator import QUICK, REGISTRY, Operator
from tests.support import access
from tests.support.clients import run
from tests.support.nodes import Node, Storage
from tests.support.registry import Blob, Document, Registry, a_name, image, some_bytes, together
from tests.support.tree import data_files

Apis = tuple[Registry, Registry]
CLIENTS = 6


def pulled(registry: Registry, name: str, digest: str) -> bytes:
    response = registry.get(f"/v2/{name}/blobs/{digest}", follow_redirects=True)
    assert response.status_code == 200, response.text
    return response.content


def test_one_blob_pushed_through_both(apis: Apis, pair: list[Node], storage: Storage) -> None:
    name, blob = a_name(), Blob(some_bytes(300_000))
    before = len(data_files(storage.root)) if storage.root else 0

    def push(number: int) -> int:
        registry = apis[number % 2]
        sent = registry.patch(registry.start(name), blob.data)
        assert sent.status_code == 202, sent.text
        return registry.finish(sent.headers["Location"], blob.digest).status_code

    answers = together(CLIENTS, push)
    # An answer that blames the storage does not say why; the node's log does.
    assert set(answers) == {201}, [access.warnings(node.server) for node in pair]
    for registry in apis:
        assert pulled(registry, name, blob.digest) == blob.data
    if storage.root:
        assert len(data_files(storage.root)) == before + 1


def test_one_upload_committed_through_both(apis: Apis) -> None:
    """As when a client, or a balancer, asks again because the first answer did not come."""
    name = a_name()
    for _ in range(5):
        blob = Blob(some_bytes(300_000))
        location = apis[0].patch(apis[0].start(name), blob.data).headers["Location"]
        found = together(2, partial(finished, apis, location, blob.digest))
        assert [each.status_code for each in found] == [201, 201], [each.text for each in found]
        for registry in apis:
            assert pulled(registry, name, blob.digest) == blob.data


def finished(apis: Apis, location: str, digest: str, number: int) -> httpx.Response:
    return apis[number].finish(location, digest)


def test_a_tag_moved_through_both(apis: Apis) -> None:
    """Whoever reads meanwhile gets one of the images, whole; and in the end all get the same."""
    name = a_name()
    first = apis[0].push(name, "moving", image())
    known = {first.content}
    last: list[bytes] = [b"", b""]

    def move(number: int) -> None:
        for _ in range(8):
            document = image()
            known.add(document.content)
            apis[number].push(name, "moving", document)
            last[number] = document.content

    def read(number: int) -> None:
        for _ in range(25):
            response = apis[number].get(f"/v2/{name}/manifests/moving")
            assert response.status_code == 200, response.text
            assert response.content in known

    with ThreadPoolExecutor(4) as pool:
        doing = [pool.submit(task, number) for task in (move, read) for number in (0, 1)]
        for each in doing:
            each.result()
    held = {registry.get(f"/v2/{name}/manifests/moving").content for registry in apis}
    assert len(held) == 1
    assert held <= set(last)


@pytest.mark.parametrize("storage", NETWORKED, indirect=True)
def test_garbage_goes_while_the_other_node_takes_pushes(apis: Apis, storage: Storage) -> None:
    """Some of what is pushed is what the collector has just found to be garbage."""
    one, other = apis
    name = a_name()
    layers = [some_bytes(2000) for _ in range(8)]
    for number, layer in enumerate(layers):
        document = one.push_image(name, f"old-{number}", layer)
        assert other.ask("DELETE", f"/v2/{name}/manifests/{document.digest}").status_code == 202
    with ThreadPoolExecutor(1) as pool:
        options = ("--now", "--min-age", "0", "--wait", "--force", "--output", "json")
        collecting = pool.submit(Operator.of(storage, **QUICK).gc, *options)
        pushed: list[Document] = []
        while not collecting.done():
            time.sleep(0.3)
            number = len(pushed)
            layer = layers[number % 4]
            pushed.append(other.push_image(name, f"new-{number}", layer, some_bytes(500)))
        ended = collecting.result()
    # Four layers were pushed anew, in time or after they had gone; the rest is garbage.
    assert json.loads(ended.stdout)["blobs_removed"] >= 4 + len(layers)
    for number, document in enumerate(pushed):
        for registry in apis:
            assert registry.get(f"/v2/{name}/manifests/new-{number}").content == document.content
        for blob in document.blobs:
            assert pulled(one, name, blob.digest) == blob.data


@pytest.mark.parametrize("storage", NETWORKED, indirect=True)
def test_a_look_at_all_that_is_stored_finds_it_sound(apis: Apis, storage: Storage) -> None:
    apis[0].push_image(a_name(), "1", some_bytes())
    beside = [Operator.of(storage, number) for number in (0, 1)]
    together(2, lambda number: beside[number].fsck("--scrub"))


@pytest.mark.parametrize("storage", NETWORKED, indirect=True)
def test_the_doctor_finds_nothing_wrong(pair: list[Node], storage: Storage) -> None:
    beside = [Operator.of(storage, number) for number in (0, 1)]
    for looked in together(2, lambda number: beside[number].doctor()):
        assert looked.code == 0, looked.text
    urls = [argument for node in pair for argument in ("--url", node.url)]
    asked = run([*REGISTRY, "doctor", *urls], check=False)
    assert asked.code == 0, asked.text
