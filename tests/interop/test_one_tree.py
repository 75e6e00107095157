"""One tree, one registry after the other: what either wrote, the other serves, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.nodes.operator import QUICK, Operator
from tests.support.api import Api, api
from tests.support.clients import Skopeo, run
from tests.support.images import (
    MIB,
    OCI_MANIFEST,
    Layout,
    artifact,
    descriptor,
    layer,
    layout_blobs,
    random_bytes,
    random_layer,
    sha256,
    sha512,
)
from tests.support.nodes import Storage
from tests.support.servers import Server, distribution, holdfast
from tests.support.snapshot import Snapshot, snapshot
from tests.support.tree import check_tree, unfinished_uploads

SIGNATURE = "application/vnd.example.signature"
BY_SHA512 = random_bytes(100_000, "pushed by sha512")
DELETED_BLOB = random_bytes(10_000, "deleted")

Start = Callable[[Path], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Starters:
    """Both registries, to be started on <directory>/tree."""

    holdfast: Start
    peer: Start


@pytest.fixture
def starters(peer: str) -> Starters:
    secret = {"http": {"secret": "peer"}}
    return Starters(
        lambda directory: holdfast(directory, config=secret),
        lambda directory: distribution(directory, peer),
    )


@dataclass(frozen=True, slots=True)
class Written:
    """What there is beside the tags, and what must not be there any more."""

    untagged: tuple[tuple[str, str], ...]
    gone: tuple[str, ...]
    """Paths that answer 404."""
    upload: str
    """Of an unfinished upload with BEGUN in it; from /v2/ on."""


BEGUN = random_bytes(3 * MIB + 17, "begun")


def write(http: Api, skopeo: Skopeo, address: str, work: Path) -> Written:
    """Something of everything that a tree may hold."""
    shared = random_layer(MIB, "shared")
    first = http.push_image("app", "1", [shared, layer({"a": b"1"})])
    second = http.push_image("app", "2", [shared, layer({"a": b"2"})])
    http.push_image("app", "moved", [shared, layer({"a": b"1"})])
    http.push_image("app", "moved", [shared, layer({"a": b"2"})])
    untagged = http.push_image("app", None, [layer({"nobody": b"tagged this"})])
    http.push_image("app/inside/another", "1", [layer({"nested": b"name"})])

    arm = http.push_image("multi", None, [shared, layer({"for": b"arm"})], "arm64")
    amd = http.push_image("multi", "amd", [shared, layer({"for": b"amd"})])
    http.push_index("multi", "1", [amd, arm])

    layout = Layout(work / "docker-types")
    layout.tag(layout.index([layout.image([shared], architecture="arm64")]), "1")
    skopeo.convert(
        layout.reference("1"), f"docker://{address}/docker:1", "--all", "--format", "v2s2"
    )

    http.push_empty("app")
    http.push_blob("app", b"signature")
    signature = artifact(first, SIGNATURE, [descriptor(SIGNATURE, b"signature")])
    http.push_manifest("app", signature)

    deleted = http.push_image("deleted", "1", [layer({"all": b"gone"})])
    http.delete(f"deleted/manifests/{deleted['digest']}")
    stale = http.push_image("app", "stale", [layer({"stale": b"stale"})])
    http.delete(f"app/manifests/{stale['digest']}")
    http.push_blob("app", DELETED_BLOB)
    http.delete(f"app/blobs/{sha256(DELETED_BLOB)}")

    http.push_blob("app", BY_SHA512, sha512(BY_SHA512))
    http.cancel(http.append(http.begin("app"), b"cancelled"))
    upload = http.append(http.append(http.begin("app"), BEGUN[:MIB]), BEGUN[MIB:])
    return Written(
        untagged=(
            ("app", untagged["digest"]),
            ("app", sha256(signature)),
            ("app", second["digest"]),
        ),
        gone=(
            "deleted/manifests/1",
            f"deleted/manifests/{deleted['digest']}",
            "app/manifests/stale",
            f"app/manifests/{stale['digest']}",
            f"app/blobs/{sha256(DELETED_BLOB)}",
        ),
        upload=upload.partition(f"{address}/")[2],
    )


def seen_by(http: Api, written: Written) -> Snapshot:
    for path in written.gone:
        assert http.status(path) == 404, path
    assert http.blob("app", sha512(BY_SHA512)) == BY_SHA512
    return snapshot(http, written.untagged)


@dataclass(frozen=True, slots=True)
class Swept:
    blobs: frozenset[str]
    manifests: int


def garbage_collect(program: str, directory: Path, *options: str) -> Swept:
    """Run the peer's collector; what it says is, or was, to be deleted."""
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(directory / "tree")}},
    }
    path = directory / "collect.yml"
    path.write_text(yaml.safe_dump(settings))
    said = run([program, "garbage-collect", *options, str(path)])
    counts = re.search(r"(\d+) blobs marked, (\d+) blobs and (\d+) manifests eligible", said.stdout)
    assert counts, said.text
    assert "level=error" not in said.text
    assert "level=warn" not in said.text
    blobs = frozenset(re.findall(r"^blob eligible for deletion: (\S+)$", said.stdout, re.M))
    assert len(blobs) == int(counts[2])
    return Swept(blobs, int(counts[3]))


@pytest.mark.parametrize("writer", ["holdfast", "peer"])
def test_either_serves_what_the_other_wrote(
    starters: Starters, skopeo: Skopeo, work: Path, writer: str
) -> None:
    first, second = (
        (starters.holdfast, starters.peer)
        if writer == "holdfast"
        else (starters.peer, starters.holdfast)
    )
    with first(work) as server, api(server.url) as http:
        written = write(http, skopeo, server.address, work)
        before = seen_by(http, written)
    assert check_tree(work / "tree") == []
    assert before.catalog == ["app", "app/inside/another", "deleted", "docker", "multi"]
    assert before.tags["app"] == ["1", "2", "moved"]
    assert before.manifests["app", "moved"] == before.manifests["app", "2"]

    with second(work) as server, api(server.url) as http:
        assert seen_by(http, written) == before
        skopeo.copy(f"docker://{server.address}/multi:1", f"oci:{work}/back:1", "--all")
        # And it builds on what it found: shared layers, a moved tag, a deleted manifest.
        http.push_image("app", "3", [random_layer(MIB, "shared"), layer({"a": b"3"})])
        http.push_image("app", "moved", [layer({"a": b"3"})])
        http.push_image("app", "short", [layer({"short": b"lived"})])
        http.delete(f"app/manifests/{sha256(http.manifest('app', 'short'))}")
        digest = http.finish(f"{server.url}/{written.upload}", b"", sha256(BEGUN))
        assert http.blob("app", digest) == BEGUN
        middle = seen_by(http, written)
    assert unfinished_uploads(work / "tree") == []
    assert check_tree(work / "tree") == []
    assert middle.tags["app"] == ["1", "2", "3", "moved"]
    assert len(layout_blobs(work / "back")) == 8

    with first(work) as server, api(server.url) as http:
        assert seen_by(http, written) == middle


def test_the_collector_of_the_peer_finds_nothing_wrong(
    starters: Starters, skopeo: Skopeo, peer: str, work: Path
) -> None:
    with starters.holdfast(work) as server, api(server.url) as http:
        written = write(http, skopeo, server.address, work)
        image = http.push_image("app", "without", [layer({"tag": b"deleted"})])
        kept = set(http.content_of("app", image["digest"]))
        http.delete("app/manifests/without")
        before = seen_by(http, written)
    kept |= {sha256(content) for _, content in before.manifests.values()}
    kept |= {digest for _, digest in before.blobs}
    blobs = (work / "tree" / "docker" / "registry" / "v2").glob("blobs/*/*/*/data")
    held = {f"{data.parts[-4]}:{data.parts[-2]}" for data in blobs}
    assert kept < held

    # What was deleted, and what no manifest names, and nothing else.
    planned = garbage_collect(peer, work, "--dry-run")
    assert planned == Swept(frozenset(held - kept), 0)
    assert check_tree(work / "tree") == []
    assert garbage_collect(peer, work) == planned
    assert garbage_collect(peer, work) == Swept(frozenset(), 0)
    assert check_tree(work / "tree", removed=planned.blobs) == []

    for start in (starters.holdfast, starters.peer):
        with start(work) as server, api(server.url) as http:
            assert snapshot(http, written.untagged) == before
    for start in (starters.holdfast, starters.peer):
        with start(work) as server, api(server.url) as http:
            # What was swept can be pushed again, although the links to it are still there.
            http.push_image("deleted", f"from{server.port}", [layer({"all": b"gone"})])
            http.push_blob("app", DELETED_BLOB)
            http.content_of("deleted", f"from{server.port}")
            assert http.blob("app", sha256(DELETED_BLOB)) == DELETED_BLOB
        garbage_collect(peer, work)


@pytest.mark.parametrize("how", ["--now", "--offline"])
def test_our_collector_costs_the_tree_of_the_peer_nothing(
    starters: Starters, skopeo: Skopeo, work: Path, how: str
) -> None:
    with starters.peer(work) as server, api(server.url) as http:
        written = write(http, skopeo, server.address, work)
        before = seen_by(http, written)
    said = Operator.of(Storage(work), **QUICK).gc(how, "--min-age", "0", "--output", "json")
    assert json.loads(said.stdout)["blobs_removed"] > 5
    held = {data.parts[-2] for data in (work / "tree").glob("docker/registry/v2/blobs/*/*/*/data")}
    assert sha256(DELETED_BLOB).removeprefix("sha256:") not in held
    assert check_tree(work / "tree") == []
    for start in (starters.peer, starters.holdfast):
        with start(work) as server, api(server.url) as http:
            assert snapshot(http, written.untagged) == before


def test_referrers_that_the_peer_took_in_are_found(starters: Starters, work: Path) -> None:
    """It knows nothing of subjects; the manifests are there, and that is enough."""
    with starters.peer(work) as server, api(server.url) as http:
        image = http.push_image("signed", "1", [layer({"signed": b"yes"})])
        http.push_empty("signed")
        http.push_blob("signed", b"signature")
        manifest = artifact(image, SIGNATURE, [descriptor(SIGNATURE, b"signature")])
        http.push_manifest("signed", manifest)
        assert http.client.get(f"/v2/signed/referrers/{image['digest']}").status_code == 404
    with starters.holdfast(work) as server, api(server.url) as http:
        found = http.referrers("signed", image["digest"])
        assert [entry["digest"] for entry in found] == [sha256(manifest)]
        assert found[0]["artifactType"] == SIGNATURE
        assert found[0]["mediaType"] == OCI_MANIFEST
    assert json.loads(manifest)["subject"]["digest"] == image["digest"]
