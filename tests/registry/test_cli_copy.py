"""`registry copy-storage` between every two kinds of storage."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registry_gc.retention.applying import judge
from registry_gc.retention.policy import Policy, Rule

from auth.patterns import repositories
from storage import layout
from storage.collection import journal
from storage.collection.publication import Publication
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from tests.faults.mounts import tmpfs
from tests.registry.copying import (
    LEFT_BEHIND,
    Place,
    copy,
    in_bucket,
    on_disk,
    reported,
    start,
)
from tests.support.s3 import S3Store

MIB = 1024 * 1024
APP = RepositoryName("team/app")

Make = Callable[[str, str], Place]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """A storage of a kind, under a name."""
    with contextlib.ExitStack() as stack:

        def one(kind: str, name: str) -> Place:
            if kind == "disk":
                return on_disk(tmp_path, name)
            store: S3Store = request.getfixturevalue("rgw")
            return stack.enter_context(in_bucket(store, tmp_path, name))

        yield one


@pytest.fixture(params=["disk-bucket", "bucket-disk"])
def ways(request: pytest.FixtureRequest, make: Make) -> tuple[Place, Place]:
    source, target = request.param.split("-")
    return make(source, "from"), make(target, "to")


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Place, Place]:
    return on_disk(tmp_path, "from"), on_disk(tmp_path, "to")


def fill(place: Place) -> None:
    """Something of everything that a tree may hold."""
    shop = place.shop
    first = shop.image("team/app", "1", b"shared", b"one")
    shop.image("team/app", "2", b"shared", b"two", os.urandom(3 * MIB))
    shop.image("team/app", "moved", b"shared", b"one")
    shop.image("team/app", "moved", b"shared", b"two")
    shop.image("team/app", None, b"untagged")
    arm = shop.image("team/app/inside", None, b"arm")
    amd = shop.image("team/app/inside", "amd", b"amd")
    inner = shop.index("team/app/inside", None, [amd, arm])
    shop.index("team/app/inside", "all", [inner, amd])
    shop.image("a-b", "1", b"")
    shop.image("1st", "1", b"first of all in the order of keys", algorithm="sha512")
    shop.image("team/app", None, b"signature", subject=shop.content(first))
    shop.image("empty", "1", b"deleted")
    repository = shop.repository("empty")
    deleted = repository.tags.current(Tag("1"))
    assert deleted is not None
    repository.manifests.delete(deleted)
    for key in (f"{layout.REVOKED}/ab.99999999999", f"{layout.TOKENS}/cd.99999999999"):
        place.driver.write(key, b"record")
    place.driver.write(layout.pulled(APP, Tag("1")), b"")
    place.driver.write(layout.PULLS_SINCE, b"")
    for key in (layout.SECRET, layout.LAST_RUN):
        place.driver.write(key, b"of this storage alone")
    said = Publication("run", 1, idle=True)
    place.driver.write(said.key, said.encode())


@pytest.mark.parametrize(
    "ways", ["disk-disk", "disk-bucket", "bucket-disk", "bucket-bucket"], indirect=True
)
def test_all_that_is_served_arrives(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    before, served = source.objects(), source.served()
    result = copy(source, target, "--verify")
    assert result.exit_code == 0, result.output
    assert source.objects() == before
    assert target.served() == served
    assert target.findings() == []
    assert "All that the source serves is at the target." in result.stdout
    there, here = source.shop, target.shop
    first = there.repository("team/app").tags.current(Tag("1"))
    assert first is not None
    assert here.repository("team/app").manifests.referrers(first) == there.repository(
        "team/app"
    ).manifests.referrers(first)
    for name, tag in (("team/app", "2"), ("team/app/inside", "all"), ("1st", "1"), ("a-b", "1")):
        digest = here.repository(name).tags.current(Tag(tag))
        assert digest is not None
        assert here.pulls(name, digest)


def test_what_is_ours_comes_along_and_what_is_the_storages_stays(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    assert copy(source, target).exit_code == 0
    keys = set(target.objects())
    for key in (
        f"{layout.REVOKED}/ab.99999999999",
        f"{layout.TOKENS}/cd.99999999999",
        layout.PULLS_SINCE,
        layout.pulled(APP, Tag("1")),
        layout.referrers_complete(APP),
    ):
        assert key in keys
    removed = {each.removal.repository for each in journal.recorded(target.driver)}
    assert removed == {RepositoryName("empty")}
    entered = f"{layout.CATALOG}/"
    ours = {key for key in keys if key.startswith(LEFT_BEHIND) and not key.startswith(entered)}
    assert {key for key in ours if not key.startswith(layout.JOURNAL)} == set()
    if target.driver.remote:  # a repository shows in the catalog before a node has walked the tree
        assert len([key for key in keys if key.startswith(entered)]) == 5


def test_once_more_copies_nothing(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    assert copy(source, target).exit_code == 0
    before = target.objects()
    result = copy(source, target)
    assert result.exit_code == 0
    assert "Copied: 0 blobs, 0 B; 0 manifests, 0 tags, 0 links, 0 records." in result.stdout
    assert target.objects() == before


def test_once_more_brings_what_changed(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    assert copy(source, target).exit_code == 0
    shop = source.shop
    moved = shop.image("team/app", "1", b"shared", b"new")
    shop.image("later", "1", b"new")
    result = reported(copy(source, target, "--output", "json"))
    assert result["copied_tags"] == 2
    assert result["copied_manifests"] == 2
    assert target.served() == source.served()
    assert target.shop.pulls("team/app", moved)


def test_a_dry_run_tells_how_much_and_writes_nothing(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    before, source_before = target.objects(), source.objects()
    result = reported(copy(source, target, "--dry-run", "--output", "json"))
    assert target.objects() == before
    assert source.objects() == source_before
    done = reported(copy(source, target, "--output", "json"))
    for what in (
        "copied_blobs",
        "copied_bytes",
        "copied_manifests",
        "copied_tags",
        "copied_records",
    ):
        assert result[what] >= done[what] > 0, what
    assert result["copied_bytes"] == done["copied_bytes"] > 3 * MIB
    assert reported(copy(source, target, "-d", "--output", "json"))["copied_bytes"] == 0


def test_a_dry_run_needs_no_target_yet(disks: tuple[Place, Place]) -> None:
    source, target = disks
    fill(source)
    assert target.root is not None
    shutil.rmtree(target.root)
    result = copy(source, target, "--dry-run")
    assert result.exit_code == 0, result.output
    assert re.search(r"^Would copy: \d+ blobs, 3\.\d MB; ", result.stdout, re.M)
    assert not target.root.exists()


def rot(place: Place, content: bytes) -> Digest:
    digest = Digest.of(content)
    place.driver.write(layout.blob(digest), bytes(len(content)))
    return digest


def test_what_is_rotten_is_named_with_the_tags_that_need_it(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    shop = source.shop
    shop.image("bad", "1", b"shared", b"rotten")
    child = shop.image("bad", None, b"rotten", b"and more")
    shop.index("bad", "index", [child])
    shop.image("bad", "good", b"shared")
    digest = rot(source, b"rotten")
    result = copy(source, target)
    assert result.exit_code == 1
    assert f"A blob is left out: the content of {digest} at the source is " in result.stdout
    for name in ("bad:1", "bad:index", f"bad@{child}"):
        assert re.search(rf"^{name} is left out: .*{digest}", result.stdout, re.M), name
    assert "4 problems" in result.stdout
    served = target.served()
    assert set(served["bad"]["tags"]) == {"good"}
    assert target.findings() == []
    assert {name: served[name] for name in served if name != "bad"} == {
        name: each for name, each in source.served().items() if name != "bad"
    }
    source.driver.write(layout.blob(digest), b"rotten")  # pushed again
    assert copy(source, target).exit_code == 0
    assert target.served() == source.served()


def test_what_leads_to_nothing_at_the_source_is_left_out_quietly(ways: tuple[Place, Place]) -> None:
    source, target = ways
    shop = source.shop
    image = shop.image("team/app", "1", b"one")
    ghost = Digest.of(b"nothing")
    for key in (
        layout.tag_current(APP, Tag("ghost")),
        layout.layer(APP, ghost),
        layout.tag_index(APP, Tag("old"), ghost),
    ):
        source.driver.write(key, str(ghost).encode())
    sparse = shop.index("team/app", "sparse", [image])
    result = copy(source, target)
    assert result.exit_code == 0, result.output
    assert "2 names lead to nothing at the source" in result.stdout
    served = source.served()
    for tag in ("ghost", "old"):  # in a bucket, a list of tags is not looked into
        served["team/app"]["tags"].pop(tag, None)
    assert target.served() == served
    assert target.shop.pulls("team/app", sparse)


def test_a_lost_layer_and_a_damaged_link_are_named(ways: tuple[Place, Place]) -> None:
    source, target = ways
    shop = source.shop
    shop.image("team/app", "lost", b"lost")
    shop.image("team/app", "unlinked", b"unlinked")
    damaged = shop.image("team/app", "damaged", b"damaged")
    source.driver.delete(layout.blob(Digest.of(b"lost")))
    source.driver.write(layout.layer(APP, Digest.of(b"unlinked")), b"")
    source.driver.write(layout.revision(APP, damaged), b"")
    result = copy(source, target)
    assert result.exit_code == 1
    assert re.search(r"^team/app:lost is left out: .* does not have sha256:", result.stdout, re.M)
    assert re.search(r"^team/app:damaged is left out: .* --repair", result.stdout, re.M)
    assert "2 problems" in result.stdout
    assert set(target.served()["team/app"]["tags"]) == {"unlinked"}  # and whole, unlike the source
    assert target.findings() == []


def test_what_is_only_at_the_target_stays_unless_it_is_to_go(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    assert copy(source, target).exit_code == 0
    gone = source.shop.repository("team/app").tags.current(Tag("2"))
    assert gone is not None
    source.shop.repository("team/app").manifests.delete(gone)
    source.shop.repository("a-b").tags.delete(Tag("1"))
    told = copy(source, target)
    assert told.exit_code == 0
    assert "Only at the target: team/app:2." in told.stdout
    assert "The target has 3 names that the source has not" in told.stdout
    assert "2" in target.served()["team/app"]["tags"]
    removed = copy(source, target, "--delete")
    assert removed.exit_code == 0, removed.output
    assert target.served() == source.served()
    restorable = {str(each.removal.tag) for each in journal.recorded(target.driver)}
    assert {"2", "1"} <= restorable


def test_an_empty_source_deletes_nothing(disks: tuple[Place, Place]) -> None:
    source, target = disks
    target.shop.image("team/app", "1", b"one")
    source.driver.write(f"{layout.BLOBS}/sha256/stray", b"")
    result = copy(source, target, "--delete")
    assert result.exit_code == 1
    assert "would remove everything at the target" in result.stderr
    assert target.served()["team/app"]["tags"]


def test_a_tag_that_was_pushed_at_the_target_stays_unless_it_is_to_be_overwritten(
    ways: tuple[Place, Place],
) -> None:
    source, target = ways
    first = source.shop.image("team/app", "1", b"one")
    assert copy(source, target).exit_code == 0
    pushed = target.shop.image("team/app", "1", b"pushed after the switch")
    result = copy(source, target)
    assert result.exit_code == 1
    assert f"at the target it names {pushed}" in result.stdout
    assert target.shop.repository("team/app").tags.current(Tag("1")) == pushed
    assert copy(source, target, "--overwrite").exit_code == 0
    assert target.shop.repository("team/app").tags.current(Tag("1")) == first


def test_times_of_pushes_and_pulls_come_along_to_a_disk(disks: tuple[Place, Place]) -> None:
    source, target = disks
    source.shop.image("team/app", "1", b"one")
    key = layout.tag_current(APP, Tag("1"))
    assert source.root is not None
    os.utime(source.root / key, (1_600_000_000, 1_600_000_000))
    assert copy(source, target).exit_code == 0
    assert target.driver.stat(key).modified == 1_600_000_000
    assert target.driver.stat(layout.blob(Digest.of(b"one"))).modified > time.time() - 600


def test_a_rule_for_old_tags_judges_in_a_bucket_as_it_did_on_the_disk(
    make: Make, tmp_path: Path
) -> None:
    """There and back: an object store gives no tag another time than that of its copy."""
    source, bucket, back = make("disk", "from"), make("bucket", "to"), make("disk", "back")
    assert source.root is not None
    days = {"b": 30, "a": 20, "c": 10}
    for tag, age in days.items():
        source.shop.image("team/app", tag, tag.encode())
        time_of = time.time() - age * 86400
        os.utime(source.root / layout.tag_current(APP, Tag(tag)), (time_of, time_of))
    for here, there in ((source, bucket), (bucket, back)):
        assert copy(here, there).exit_code == 0
    rule = Rule(repositories=(repositories("**"),), newest=1, younger=15 * 86400)

    def order(place: Place) -> list[tuple[str, bool, int]]:
        with ThreadPoolExecutor(2) as pool:
            (judged,) = judge(place.driver, Policy([rule]), pool, time.time())
        return [
            (
                str(each.facts.tag),
                each.kept,
                round((time.time() - each.facts.pushed) / 86400),
            )
            for each in judged.decisions
        ]

    for place in (source, bucket, back):
        assert order(place) == [("c", True, 10), ("a", False, 20), ("b", False, 30)]
    bucket.shop.image("team/app", "b", b"pushed there")
    assert order(bucket)[0] == ("b", True, 0)


def test_a_damaged_copy_is_copied_again(ways: tuple[Place, Place]) -> None:
    source, target = ways
    fill(source)
    assert copy(source, target).exit_code == 0
    key = layout.blob(Digest.of(b"shared"))
    target.driver.write(key, b"sha")
    assert reported(copy(source, target, "--output", "json"))["copied_blobs"] == 1
    assert target.driver.read(key) == b"shared"


def test_one_storage_is_not_copied_into_itself(disks: tuple[Place, Place], tmp_path: Path) -> None:
    source, _ = disks
    fill(source)
    assert source.root is not None
    (tmp_path / "link").symlink_to(source.root)
    alias = on_disk(tmp_path, "link")
    for one in (source, alias):
        result = copy(source, one)
        assert result.exit_code == 2
        assert result.stderr == "FROM and TO are the same storage; name another one in TO.\n"


def test_one_bucket_under_two_names_is_not_copied_into_itself(rgw: S3Store, tmp_path: Path) -> None:
    with in_bucket(rgw, tmp_path, "from") as source:
        source.shop.image("team/app", "1", b"one")
        text = source.config.read_text()
        before = source.objects()
        other = tmp_path / "other.yml"
        other.write_text(text.replace("127.0.0.1", "localhost"))
        result = copy(source, Place(other, source.driver))
        assert result.exit_code == 2
        assert "the same storage under two names" in result.stderr
        assert source.objects() == before


def test_what_cannot_be_copied_from_or_to(disks: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = disks
    memory = tmp_path / "memory.yml"
    memory.write_text("version: 0.1\nstorage: inmemory\n")
    assert copy(Place(memory, source.driver), target).exit_code == 2
    result = copy(source, target)
    assert result.exit_code == 2
    assert "nothing was ever pushed to that storage" in result.stderr
    assert source.root is not None
    shutil.rmtree(source.root)
    result = copy(source, target)
    assert result.exit_code == 1
    assert f"{source.root} is no directory. Mount the volume" in result.stderr
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("version: 0.1\nstorage: {nothing: {}}\n")
    assert copy(Place(wrong, source.driver), target).exit_code == 2


def test_variables_are_not_read(
    disks: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = disks
    fill(source)
    monkeypatch.setenv("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/nowhere")
    assert copy(source, target).exit_code == 0


def test_quiet_is_quiet_if_all_is_well(disks: tuple[Place, Place]) -> None:
    source, target = disks
    fill(source)
    result = copy(source, target, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    source.shop.image("bad", "1", b"rotten")
    rot(source, b"rotten")
    result = copy(source, target, "--quiet")
    assert result.exit_code == 1
    assert "bad:1 is left out" in result.stdout


def test_a_target_without_room_is_told_before_anything_is_copied(
    disks: tuple[Place, Place], tmp_path: Path
) -> None:
    source, _ = disks
    source.shop.image("team/app", "1", os.urandom(4 * MIB))
    with tmpfs(tmp_path / "small", "1m"):
        target = on_disk(tmp_path / "small", "to")
        result = copy(source, target)
    assert result.exit_code == 1
    assert re.fullmatch(
        r"The target has room for .*, and 4\.2 MB are to be copied\. .*\n", _last(result.stderr)
    )


def _last(text: str) -> str:
    return text.splitlines(keepends=True)[-1]


def big(place: Place, number: int) -> None:
    shop = place.shop
    for each in range(number):
        shop.image(f"big/{each}", "1", os.urandom(8 * MIB))


def copied(target: Place) -> int:
    return len([*target.driver.walk(layout.BLOBS)])


def test_a_copy_that_is_killed_goes_on(ways: tuple[Place, Place]) -> None:
    """SIGKILL at several moments; at each, the target has no name that leads to nothing."""
    source, target = ways
    big(source, 6)
    for wanted in (1, 4, 8):
        process = start(source, target, "--jobs", "2")
        deadline = time.monotonic() + 60
        while copied(target) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=30)
        assert target.findings() == []
        assert copied(target) >= wanted
    result = copy(source, target)
    assert result.exit_code == 0, result.output
    assert target.served() == source.served()
    assert not [*target.driver.walk(layout.COPYING)]


def test_an_interrupted_copy_ends_soon_with_130(disks: tuple[Place, Place]) -> None:
    source, target = disks
    big(source, 8)
    process = start(source, target, "--jobs", "1")
    while copied(target) < 1 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert copied(target) < 16


def test_pushes_go_on_while_it_copies(ways: tuple[Place, Place]) -> None:
    """Whoever reads the target meanwhile meets no name that leads to nothing."""
    source, target = ways
    big(source, 4)
    stop = threading.Event()
    trouble: list[object] = []

    def push() -> None:
        shop, number = source.shop, 0
        while not stop.is_set():
            number += 1
            children = [shop.image("live", None, os.urandom(20_000)) for _ in range(2)]
            shop.index("live", f"{number % 7}", children)
            shop.image("live", "latest", os.urandom(20_000))

    def read() -> None:
        while not stop.is_set():
            trouble.extend(target.findings())

    threads = [threading.Thread(target=work) for work in (push, read)]
    for thread in threads:
        thread.start()
    try:
        process = start(source, target)
        _, said = process.communicate(timeout=240)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert process.returncode == 0, said
    assert trouble == []
    assert target.shop.repository("live").tags.current(Tag("latest")) is not None
    assert copy(source, target).exit_code == 0
    assert target.served() == source.served()


def test_what_the_targets_collector_condemned_is_kept(disks: tuple[Place, Place]) -> None:
    """A copy relies on blobs that are there already as a push does."""
    source, target = disks
    source.shop.image("team/app", "1", b"one")
    assert copy(source, target).exit_code == 0
    key = layout.revision(APP, *_revisions_of(target))
    target.driver.delete(key)
    target.driver.delete(layout.tag_current(APP, Tag("1")))
    shop = target.shop
    report = shop.collect(again=False)
    assert report.condemned_blobs == 3
    assert copy(source, target).exit_code == 0
    shop.collect(again=False)
    shop.collect(again=False)
    assert shop.pulls("team/app", *_revisions_of(target))


def _revisions_of(place: Place) -> list[Digest]:
    return [Digest.parse(d) for d in place.served()["team/app"]["manifests"]]
