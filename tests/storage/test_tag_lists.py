"""What is remembered of lists, on a filesystem that others change as well: what was answered, shows."""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import layout, links
from storage.catalog import Catalog
from storage.driver import Child, Driver, Unavailable
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


class Node:
    """A worker with its memory, and what it asked of the storage."""

    def __init__(self, root: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.files = FilesystemDriver(root)
        self.files.prepare()
        self.driver = ObservedDriver(
            self.files, lambda operation, *_: self.asked.update([operation])
        )
        self.now = 0.0
        self.tags = Tags(self.driver, NAME, TagLists(lambda: self.now))

    def names(self, after: str = "", limit: int | None = None) -> list[str]:
        """Of a list that may be remembered."""
        settled(self.files, TAGS)
        self.asked.clear()
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
    assert node.asked["read"] == 4, "each tag's link, and that of the manifest that all name"
    assert node.names() == ["v1", "v10", "v2"]
    assert not node.asked


def test_only_the_page_is_looked_at(node: Node) -> None:
    assert node.names(after="v1", limit=1) == ["v10"]
    assert node.asked["read"] == 3, "the page, whether there is more, and the manifest"
    assert node.names(after="v10") == ["v2"]
    assert node.asked["read"] == 0


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
    assert path_of(tmp_path, "v1").exists()
    assert node.names() == ["v10", "v2"]


def test_a_link_that_is_gone_by_itself_shows_after_a_while(node: Node, tmp_path: Path) -> None:
    assert node.names() == ["v1", "v10", "v2"]
    (path_of(tmp_path, "v1") / "current" / "link").unlink()
    node.now += TRUSTED + 1
    assert node.names() == ["v10", "v2"]


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
