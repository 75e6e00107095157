"""What is remembered of lists, on a filesystem that others change as well: what was answered, shows."""

from __future__ import annotations

import errno
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from storage import layout, links, tag_lists
from storage.catalog import Catalog
from storage.driver import Child, Driver
from storage.driver_errors import Unavailable
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.observed import ObservedDriver
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from storage.tag_lists import TRUSTED, TagLists
from storage.tags import Tags
from tests.storage.editions import settled

NAME = RepositoryName("team/app")
TAGS = layout.tags(NAME)
DIGEST = Digest.of(b"{}")


class Looked(FilesystemDriver):
    """Which names' links were read, tags' and revisions' alike."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.at: list[str] = []

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        self.at += names
        return super().read_leaves(prefix, names, leaf, length=length)


class Node:
    """A worker with its memory, and what it asked of the storage."""

    def __init__(self, root: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.files = Looked(root)
        self.files.prepare()
        self.driver = ObservedDriver(
            self.files, lambda operation, *_: self.asked.update([operation])
        )
        self.now = 0.0
        self.tags = Tags(self.driver, NAME, TagLists(lambda: self.now))

    def names(self, after: str = "", limit: int | None = None) -> list[str]:
        """Of a list that may be remembered."""
        settled(self.files, layout.manifests(NAME))
        settled(self.files, TAGS)
        self.asked.clear()
        self.files.at.clear()
        return [tag.value for tag in self.tags.list(after=after, limit=limit)[0]]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return filled(Node(tmp_path))


@pytest.fixture
def other(tmp_path: Path) -> Node:
    return Node(tmp_path)


def filled(node: Node) -> Node:
    links.write(node.driver, layout.revision(NAME, DIGEST), DIGEST)
    for name in ("v1", "v10", "v2"):
        node.tags.set(Tag(name), DIGEST)
    return node


def path_of(root: Path, tag: str) -> Path:
    return root / layout.tag_directory(NAME, Tag(tag))


def test_a_second_list_reads_no_link(node: Node) -> None:
    assert node.names() == ["v1", "v10", "v2"]
    assert node.files.at == ["v1", "v10", "v2", DIGEST.hex], "the manifest that all name, once"
    assert node.asked == {"list": 1, "read": 2}
    assert node.names() == ["v1", "v10", "v2"]
    assert not node.asked


def test_only_the_page_is_looked_at(node: Node) -> None:
    assert node.names(after="v1", limit=1) == ["v10"]
    assert node.files.at == ["v10", "v2", DIGEST.hex], "the page, and whether there is more"
    assert node.names(after="v10") == ["v2"]
    assert not node.files.at
    assert node.names(limit=1) == ["v1"]
    assert node.files.at == ["v1", DIGEST.hex]


def test_only_the_names_that_came_are_looked_at(node: Node, other: Node) -> None:
    assert node.names() == ["v1", "v10", "v2"]
    other.tags.set(Tag("v11"), DIGEST)
    assert node.names() == ["v1", "v10", "v11", "v2"]
    assert node.files.at == ["v11", DIGEST.hex]
    other.tags.delete(Tag("v10"))
    assert node.names() == ["v1", "v11", "v2"]
    assert not node.files.at
    other.tags.set(Tag("v10"), DIGEST)
    assert node.names() == ["v1", "v10", "v11", "v2"]
    assert node.files.at == ["v10", DIGEST.hex], "one that went is not remembered"


def test_what_was_pushed_a_moment_ago_costs_no_more(node: Node, other: Node) -> None:
    """While the directory's last change cannot be told from the next, its names can be listed."""
    assert node.names() == ["v1", "v10", "v2"]
    node.files.at.clear()
    for number in range(5):
        tag = Tag(f"w{number}")
        other.tags.set(tag, DIGEST)
        assert tag in node.tags.list()[0]
        assert node.files.at == [tag.value, DIGEST.hex]
        node.files.at.clear()
        other.tags.delete(tag)
        assert tag not in node.tags.list()[0]
        assert not node.files.at


def test_a_tag_that_moves_stays_in_the_list(node: Node, other: Node) -> None:
    moved = Digest.of(b"moved")
    links.write(node.driver, layout.revision(NAME, moved), moved)
    assert node.names() == ["v1", "v10", "v2"]
    other.tags.set(Tag("v1"), moved)
    other.tags.delete_pointing_to(DIGEST)
    assert node.names() == ["v1"]
    assert not node.files.at


def test_names_that_can_be_no_tags_are_passed_over(node: Node, tmp_path: Path) -> None:
    for name in (".hidden", "-v", "bl ank", "\N{SNOWMAN}", "x" * 129):
        (tmp_path / TAGS / name).mkdir()
    (tmp_path / TAGS / "file").touch()
    (tmp_path / TAGS / "empty").mkdir()
    (tmp_path / TAGS / "directory" / "current" / "link").mkdir(parents=True)
    assert node.names() == ["v1", "v10", "v2"]
    assert node.names() == ["v1", "v10", "v2"]
    assert node.files.at == ["directory", "empty", "file"], "which may become tags"


def test_a_tag_without_its_manifest_shows_when_that_comes(node: Node, other: Node) -> None:
    """A damaged revision is none; one of either algorithm is."""
    gone, long = Digest.of(b"gone"), Digest.of(b"long", "sha512")
    links.write(other.driver, layout.revision(NAME, long), long)
    other.driver.write(layout.revision(NAME, gone), b"sha256:torn")
    other.tags.set(Tag("gone"), gone)
    other.tags.set(Tag("long"), long)
    assert node.names() == ["long", "v1", "v10", "v2"]
    links.write(other.driver, layout.revision(NAME, gone), gone)
    assert node.names() == ["gone", "long", "v1", "v10", "v2"]
    assert node.files.at == ["gone", gone.hex]


def test_a_damaged_link_is_told_of_and_looked_at_again(
    node: Node, other: Node, caplog: pytest.LogCaptureFixture
) -> None:
    torn = layout.tag_current(NAME, Tag("v10"))
    other.driver.write(torn, b"sha256:torn")
    assert node.names() == ["v1", "v2"]
    assert torn in caplog.text
    other.tags.set(Tag("v10"), DIGEST)
    assert node.names() == ["v1", "v10", "v2"]


def test_a_link_that_the_other_registry_writes_in_place_is_waited_for(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """CNCF Distribution cuts it to nothing, then writes."""
    link = path_of(tmp_path, "v10") / "current" / "link"
    link.write_bytes(b"")
    waits: list[float] = []

    def written(seconds: float) -> None:
        waits.append(seconds)
        link.write_bytes(links.encode(DIGEST))

    settled(node.files, TAGS)
    monkeypatch.setattr(time, "sleep", written)
    assert [tag.value for tag in node.tags.list()[0]] == ["v1", "v10", "v2"]
    assert waits == [links.PAUSES[0]]
    assert caplog.text == ""


def test_more_than_is_looked_at_at_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_lists, "LOOKED_AT_ONCE", 2)
    assert node.names() == ["v1", "v10", "v2"]
    assert node.files.at == ["v1", "v10", DIGEST.hex, "v2"]


def test_where_a_server_is_behind_every_list_looks_at_everything(
    node: Node, tmp_path: Path
) -> None:
    node.files._tree.local = False
    for left in (["v1", "v10", "v2"], ["v1", "v2"]):
        assert [tag.value for tag in node.tags.list()[0]] == left
        (path_of(tmp_path, "v10") / "current" / "link").unlink(missing_ok=True)


def test_what_another_node_pushes_and_deletes_shows(node: Node, other: Node) -> None:
    assert node.names() == ["v1", "v10", "v2"]
    other.tags.set(Tag("v3"), DIGEST)
    assert node.names() == ["v1", "v10", "v2", "v3"]
    other.tags.delete(Tag("v1"))
    assert node.names() == ["v10", "v2", "v3"]


def test_what_the_other_registry_removes_shows(node: Node, tmp_path: Path) -> None:
    """CNCF Distribution removes a tag's directory with all that is in it."""
    assert node.names() == ["v1", "v10", "v2"]
    shutil.rmtree(path_of(tmp_path, "v10"))
    assert node.names() == ["v1", "v2"]


def test_a_push_that_goes_on_after_a_list_shows(node: Node, other: Node) -> None:
    other.driver.write(layout.tag_index(NAME, Tag("v3"), DIGEST), links.encode(DIGEST))
    assert node.names() == ["v1", "v10", "v2"]
    other.tags.set(Tag("v3"), DIGEST)
    assert node.names() == ["v1", "v10", "v2", "v3"]


def test_a_deletion_that_cannot_remove_the_directory_shows(
    node: Node, other: Node, tmp_path: Path
) -> None:
    assert node.names() == ["v1", "v10", "v2"]
    (path_of(tmp_path, "v1") / "current" / "in the way").touch()
    other.tags.delete(Tag("v1"))
    other.tags.set(Tag("v3"), DIGEST)
    assert path_of(tmp_path, "v1").exists()
    assert node.names() == ["v10", "v2", "v3"]


def test_a_link_that_is_gone_by_itself_shows_after_a_while(node: Node, tmp_path: Path) -> None:
    """However often names come and go in between."""
    assert node.names() == ["v1", "v10", "v2"]
    (path_of(tmp_path, "v1") / "current" / "link").unlink()
    node.now += TRUSTED / 2
    node.tags.set(Tag("v3"), DIGEST)
    assert "v10" in node.names()
    node.now += TRUSTED / 2 + 1
    assert node.names() == ["v10", "v2", "v3"]


def test_a_list_without_a_memory_is_what_is_there(node: Node, tmp_path: Path) -> None:
    """The collector's, which decides by it."""
    assert node.names() == ["v1", "v10", "v2"]
    (path_of(tmp_path, "v1") / "current" / "link").unlink()
    assert [str(tag) for tag in Tags(node.driver, NAME).list()[0]] == ["v10", "v2"]


def repositories(driver: Driver, *names: str) -> None:
    for name in names:
        links.write(driver, layout.revision(RepositoryName(name), DIGEST), DIGEST)


def all_settled(driver: FilesystemDriver, *names: str) -> None:
    for name in names:
        settled(driver, f"{layout.REPOSITORIES}/{name}".rstrip("/"))


def test_the_catalog_lists_again_only_what_changed(node: Node, other: Node) -> None:
    catalog = Catalog(node.driver)

    def listed(after: str = "") -> list[str]:
        all_settled(node.files, "", "team", "team/app", "team/tool")
        node.asked.clear()
        return [str(name) for name in catalog.list(after=after, limit=10)[0]]

    repositories(other.driver, "team/tool", "zoo")
    all_settled(node.files, "zoo")
    assert listed() == ["team/app", "team/tool", "zoo"]
    assert listed() == ["team/app", "team/tool", "zoo"]
    assert node.asked == {"list": 4}, "whether each that may be one has manifests"
    assert listed("team/app") == ["team/tool", "zoo"]
    repositories(other.driver, "team/tool/below", "team/new")
    assert listed() == ["team/app", "team/new", "team/tool", "team/tool/below", "zoo"]
    other.driver.delete_tree(layout.manifests(RepositoryName("team/tool")))
    assert listed() == ["team/app", "team/new", "team/tool/below", "zoo"]


class Closed(FilesystemDriver):
    """A directory that this process may not read, whoever it is."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        if prefix == f"{layout.REPOSITORIES}/team":
            raise Unavailable(f"list {prefix}") from PermissionError(errno.EACCES, "denied")
        return super().list(prefix, after=after)


def test_what_was_left_out_of_a_catalog_is_not_taken_for_empty(tmp_path: Path) -> None:
    driver = Closed(tmp_path)
    driver.prepare()
    repositories(driver, "team/app", "zoo")
    all_settled(driver, "", "team")
    catalog = Catalog(driver)
    assert [str(name) for name in catalog.list(limit=10)[0]] == ["zoo"]
    with pytest.raises(Unavailable):
        list(catalog.walk())
