"""The check that the tests around it rely on: it finds each kind of damage, and nothing in a whole tree."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.api import api
from tests.support.images import layer
from tests.support.servers import holdfast
from tests.support.tree import check_tree


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree of one index, tagged `1`, of one image, tagged `image`."""
    directory = tmp_path_factory.mktemp("whole")
    with holdfast(directory, workers=1) as server, api(server.url) as http:
        http.push_index("app", "1", [http.push_image("app", "image", [layer({"a": b"a"})])])
        http.append(http.begin("app"), b"unfinished")
    yield server.root
    shutil.rmtree(directory)


def largest_blob(root: Path) -> Path:
    return max(root.rglob("blobs/*/*/*/data"), key=lambda file: file.stat().st_size)


def tag(root: Path) -> Path:
    return next(root.rglob("tags/1/current/link"))


def revision(root: Path) -> Path:
    algorithm, _, value = tag(root).read_text().partition(":")
    return next(root.rglob(f"revisions/{algorithm}/{value}/link"))


def newline(link: Path) -> None:
    link.write_text(link.read_text() + "\n")


def lose_children(root: Path) -> None:
    kept = revision(root)
    for link in root.rglob("revisions/*/*/link"):
        if link != kept:
            link.unlink()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "blob lost": lambda root: largest_blob(root).unlink(),
    "blob cut short": lambda root: largest_blob(root).write_bytes(b""),
    "blob changed": lambda root: largest_blob(root).write_bytes(
        b"x" + largest_blob(root).read_bytes()[1:]
    ),
    "stray file among the blobs": lambda root: (largest_blob(root).parent / "tmp").touch(),
    "layer link lost": lambda root: next(root.rglob("_layers/*/*/link")).unlink(),
    "layer link empty": lambda root: next(root.rglob("_layers/*/*/link")).write_bytes(b""),
    "revision of a tag lost": lambda root: revision(root).unlink(),
    "every revision lost but the index": lose_children,
    "revision with a newline": lambda root: newline(revision(root)),
    "tag with a newline": lambda root: newline(tag(root)),
    "tag of nothing": lambda root: tag(root).write_text("sha256:" + "0" * 64),
    "history lost": lambda root: shutil.rmtree(tag(root).parent.parent / "index"),
    "stray file among the tags": lambda root: (tag(root).parents[2] / "1.tmp").touch(),
}


def test_a_whole_tree_has_no_problems(whole: Path) -> None:
    assert check_tree(whole) == []


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found(whole: Path, work: Path, damage: Callable[[Path], object]) -> None:
    root = work / "tree"
    shutil.copytree(whole, root)
    damage(root)
    assert check_tree(root)
