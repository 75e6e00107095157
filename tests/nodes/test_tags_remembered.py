"""What `storage.cache.tagttl` allows: a node that shows a tag as it was, for so long and no longer.

In a bucket: elsewhere nothing is remembered of tags.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.nodes.conftest import Placing, sound
from tests.support.nodes import Node
from tests.support.registry import Document, Registry, a_name, image, refused

SHORT = 2.0
LONG = 3600.0


@pytest.fixture(scope="module")
def three(placing: Placing) -> Iterator[list[Node]]:
    """One that is written to, one that may remember for SHORT, and one for LONG."""
    place = placing("s3")
    made = [
        # With one worker what is remembered is there at the next request as well.
        Node(place, storage={"cache": {"tagttl": f"{seconds:g}s"}}, http={"workers": 1})
        for seconds in (0.0, SHORT, LONG)
    ]
    try:
        for node in made:
            node.start()
        yield made
    finally:
        for node in made:
            node.close()
    sound(place, *made)


@pytest.fixture
def apis(three: list[Node]) -> Iterator[list[Registry]]:
    registries = [Registry(node.url) for node in three]
    yield registries
    for registry in registries:
        registry.close()


def tag_of(registry: Registry, name: str) -> httpx.Response:
    return registry.get(f"/v2/{name}/manifests/1")


def shown(registry: Registry, name: str) -> bytes:
    answer = tag_of(registry, name)
    assert answer.status_code == 200, answer.text
    return answer.content


def remembered_by_all(apis: list[Registry], name: str) -> Document:
    """An image that every node has just been asked for by its tag."""
    there = apis[0].push(name, "1", image())
    assert [shown(registry, name) for registry in apis] == [there.content] * len(apis)
    return there


def test_a_tag_that_was_moved(apis: list[Registry]) -> None:
    written, short, long = apis
    name = a_name()
    old = remembered_by_all(apis, name)
    new = written.push(name, "1", image())
    moved = time.monotonic()
    assert shown(written, name) == new.content
    assert shown(short, name) in (old.content, new.content)
    assert shown(long, name) == old.content
    until(moved + SHORT)
    assert shown(short, name) == new.content


def test_a_tag_that_was_deleted(apis: list[Registry]) -> None:
    written, short, long = apis
    name = a_name()
    old = remembered_by_all(apis, name)
    assert written.ask("DELETE", f"/v2/{name}/manifests/1").status_code == 202
    deleted = time.monotonic()
    refused(tag_of(written, name), 404, "MANIFEST_UNKNOWN")
    assert shown(long, name) == old.content
    assert short.tags(name) == long.tags(name) == []
    until(deleted + SHORT)
    refused(tag_of(short, name), 404, "MANIFEST_UNKNOWN")


def test_who_moves_a_tag_sees_it_moved(apis: list[Registry]) -> None:
    """Through a node that remembers, as through any other."""
    *_, long = apis
    name = a_name()
    remembered_by_all(apis, name)
    new = long.push(name, "1", image())
    assert shown(long, name) == new.content
    assert long.ask("DELETE", f"/v2/{name}/manifests/1").status_code == 202
    refused(tag_of(long, name), 404, "MANIFEST_UNKNOWN")


def until(moment: float) -> None:
    """What was known before `moment` less SHORT must not be believed after it, however late it is then."""
    time.sleep(max(0.0, moment - time.monotonic()))
