"""Holdfast and the peer, both running on one tree, each with half of the clients."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from tests.support import access
from tests.support.api import Api, api
from tests.support.clients import Skopeo
from tests.support.images import (
    MIB,
    Layout,
    layer,
    layout_blobs,
    random_bytes,
    random_layer,
    sha256,
)
from tests.support.servers import Server, distribution, holdfast
from tests.support.tree import check_tree, unfinished_uploads


@dataclass(frozen=True, slots=True)
class Side:
    server: Server
    http: Api


@dataclass(frozen=True, slots=True)
class Both:
    ours: Side
    theirs: Side

    def __iter__(self) -> Iterator[Side]:
        return iter((self.ours, self.theirs))


@pytest.fixture
def both(peer: str, work: Path) -> Iterator[Both]:
    with (
        holdfast(work, config={"http": {"secret": "peer"}}) as ours,
        distribution(work, peer) as theirs,
        api(ours.url) as our_http,
        api(theirs.url) as their_http,
    ):
        yield Both(Side(ours, our_http), Side(theirs, their_http))
    assert access.failures(ours) == []
    assert check_tree(work / "tree") == []
    assert unfinished_uploads(work / "tree") == []


def test_turn_by_turn(both: Both, skopeo: Skopeo, work: Path) -> None:
    layout = Layout(work / "layout")
    shared = random_layer(2 * MIB, "shared")
    sides = list(both)
    for turn in range(6):
        pushing, pulling = sides[turn % 2], sides[(turn + 1) % 2]
        tag = f"t{turn}"
        layout.tag(layout.image([shared, layer({"turn": tag.encode()})]), tag)
        skopeo.copy(layout.reference(tag), f"docker://{pushing.server.address}/turns/app:{tag}")
        skopeo.copy(layout.reference(tag), f"docker://{pushing.server.address}/turns/app:latest")
        skopeo.copy(
            f"docker://{pulling.server.address}/turns/app:latest", f"oci:{work}/back{turn}:1"
        )
        assert pulling.http.tags("turns/app") == ["latest", *(f"t{n}" for n in range(turn + 1))]
        for side in both:
            # A tag that moved on one side has moved on the other, whatever that has in its memory.
            assert side.http.manifest("turns/app", "latest") == side.http.manifest("turns/app", tag)
        assert layout_blobs(work / f"back{turn}") <= layout_blobs(layout.path)


def test_what_one_deletes_is_gone_from_the_other(both: Both) -> None:
    for number, (deleting, asking) in enumerate([tuple(both), tuple(both)[::-1]]):
        name = f"deleting/app{number}"
        image = deleting.http.push_image(name, "1", [layer({"x": b"y"})])
        asking.http.push_image(name, "2", [layer({"y": b"z"})])
        assert asking.http.tags(name) == deleting.http.tags(name) == ["1", "2"]
        content = asking.http.content_of(name, "1")
        assert content == deleting.http.content_of(name, "1")
        deleting.http.delete(f"{name}/manifests/{image['digest']}")
        assert asking.http.status(f"{name}/manifests/{image['digest']}") == 404
        assert asking.http.status(f"{name}/manifests/1") == 404
        assert asking.http.tags(name) == deleting.http.tags(name) == ["2"]
        blob = next(digest for digest in content if digest != image["digest"])
        deleting.http.delete(f"{name}/blobs/{blob}")
        assert asking.http.status(f"{name}/blobs/{blob}") == 404


def test_pushes_at_the_same_time(both: Both) -> None:
    """Every image has layers of its own, and some that everybody pushes at once."""
    shared = [random_layer(MIB, f"common{number}") for number in range(3)]
    own = [random_layer(MIB, f"own{number}") for number in range(8)]

    def push(number: int, side: Side) -> str:
        name = f"together/app{number % 3}"
        with api(side.server.url) as http:
            digest: str = http.push_image(name, f"v{number}", [*shared, own[number]])["digest"]
        return digest

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(push, range(8), cycle(both)))
    for side in both:
        for number, digest in enumerate(digests):
            name = f"together/app{number % 3}"
            assert sha256(side.http.manifest(name, f"v{number}")) == digest
            assert len(side.http.content_of(name, digest)) == 6


@pytest.mark.parametrize("begins", ["ours", "theirs"])
def test_an_upload_changes_sides_at_every_step(both: Both, begins: str) -> None:
    """The URL is signed with the secret that both have; the bytes and their hash lie in the tree."""
    sides = [both.ours, both.theirs] if begins == "ours" else [both.theirs, both.ours]
    turns = cycle(sides)
    chunks = [random_bytes(size, size) for size in (MIB, 77, 2 * MIB + 3, 65536)]
    side = next(turns)
    location = side.http.begin("changing/app")
    for chunk in chunks:
        moved = next(turns)
        location = moved.http.append(location.replace(side.server.url, moved.server.url), chunk)
        side = moved
    last = next(turns)
    location, held = last.http.upload_status(location.replace(side.server.url, last.server.url))
    content = b"".join(chunks)
    assert held == f"0-{len(content) - 1}"
    digest = last.http.finish(location, b"and the end", sha256(content + b"and the end"))
    for side in both:
        assert side.http.blob("changing/app", digest) == content + b"and the end"
