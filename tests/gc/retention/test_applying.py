"""Tags that no clause keeps go, with a way back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from registry_gc.outcome import Braked
from registry_gc.retention.policy import Policy, Rule
from registry_gc.retention.sizes import exclusive, needed

from auth.patterns import repositories
from storage import layout
from storage.collection import journal
from storage.model.digest import Digest
from storage.model.errors import ManifestUnknown
from storage.model.reference import RepositoryName, Tag
from tests.gc.shop import Shop

NAME = RepositoryName("ci/app")
CI = (repositories("ci/**"),)


def tags(shop: Shop, name: str) -> list[str]:
    return [tag.value for tag in shop.repository(name).list_tags()[0]]


def age(shop: Shop, name: RepositoryName, tag: str, days: float) -> None:
    """As if it had been pushed so long ago."""
    path = shop.driver.local_path(layout.tag_current(name, Tag(tag)))
    assert isinstance(path, Path)
    then = path.stat().st_mtime - days * 86400
    os.utime(path, (then, then))


def test_old_tags_go_and_their_content_after_them(plain: Shop) -> None:
    for number in range(5):
        plain.image("ci/app", f"b{number}", b"%d" % number)
        age(plain, NAME, f"b{number}", 10 - number)
    other = plain.image("prod/app", "1", b"prod")
    policy = Policy([Rule(CI, newest=2)])
    report = plain.collect(retention=policy, untagged=0.0)
    assert report.tags_removed == 3
    assert tags(plain, "ci/app") == ["b3", "b4"]
    assert plain.pulls("prod/app", other)
    plain.collect(retention=policy, untagged=0.0)
    assert not plain.has_blob(Digest.of(b"0"))
    assert plain.has_blob(Digest.of(b"4"))


def test_a_dry_run_counts_them(plain: Shop) -> None:
    for number in range(3):
        plain.image("ci/app", f"b{number}", b"%d" % number)
    report = plain.collect(retention=Policy([Rule(CI, newest=1)]), dry_run=True)
    assert report.tags_removed == 2
    assert len(tags(plain, "ci/app")) == 3


def test_all_tags_of_a_repository_are_a_mistake(plain: Shop) -> None:
    digest = plain.image("ci/app", "b0", b"one")
    for number in range(1, 12):
        plain.repository("ci/app").tags.set(Tag(f"b{number}"), digest)
    policy = Policy([Rule(CI, matching=("nothing-is-called-so",))])
    with pytest.raises(Braked, match="all of its 12 tags"):
        plain.collect(retention=policy, force=False)
    assert len(tags(plain, "ci/app")) == 12


def test_a_tag_that_was_pushed_meanwhile_stays(plain: Shop) -> None:
    old = plain.image("ci/app", "1", b"old")
    new = plain.image("ci/app", "1", b"new")
    repository = plain.repository("ci/app").tags
    assert not repository.expire(Tag("1"), old, "run")
    assert repository.current(Tag("1")) == new
    assert repository.expire(Tag("1"), new, "run")
    assert [each.removal.run for each in journal.recorded(plain.driver)] == ["run"]


def test_a_tag_takes_its_mark_with_it(plain: Shop) -> None:
    plain.image("ci/app", "1", b"one")
    plain.driver.write(layout.pulled(NAME, Tag("1")), b"")
    plain.repository("ci/app").tags.delete(Tag("1"))
    assert not [*plain.driver.walk(f"{layout.REPOSITORIES}/ci/app/_holdfast/pulled")]


def test_a_pull_by_digest_keeps_the_tags_that_name_it(plain: Shop) -> None:
    kept, other = plain.image("ci/app", "1", b"one"), plain.image("ci/app", "2", b"two")
    plain.driver.write(layout.PULLS_SINCE, b"")
    plain.driver.write(layout.pulled_by_digest(NAME, kept), b"")
    policy = Policy([Rule(CI, pulled_within=0.0)])
    plain.collect(retention=policy, untagged=-10.0)
    assert tags(plain, "ci/app") == ["1"]
    assert not plain.pulls("ci/app", other)


def test_a_manifest_takes_its_mark_with_it(plain: Shop) -> None:
    """Whether somebody deletes it, or a rule does."""
    policy = Policy([Rule((repositories("other/**"),), pulled_within=0.0)])
    for delete in (True, False):
        digest = plain.image("ci/app", None, b"one")
        mark = layout.pulled_by_digest(NAME, digest)
        plain.driver.write(mark, b"")
        if delete:
            plain.repository("ci/app").manifests.delete(digest)
        plain.collect(retention=policy, untagged=-10.0)
        assert mark not in plain.tree()


def test_what_a_tag_alone_holds(plain: Shop) -> None:
    first = plain.image("a", "1", b"shared", b"first")
    second = plain.image("a", "2", b"shared", b"second!")
    index = plain.index("a", "3", [first])
    needs = {
        Tag("1"): needed(plain.driver, first),
        Tag("2"): needed(plain.driver, second),
        Tag("3"): needed(plain.driver, index),
    }
    sizes = exclusive(needs)
    assert sizes[Tag("1")] == 0
    assert sizes[Tag("2")] == len(b"second!") + len(plain.content(second))
    assert sizes[Tag("3")] == len(plain.content(index))


@pytest.mark.parametrize("manifests", ["null", '"x"', "[null]", "{}"])
def test_what_an_older_registry_took_for_a_manifest_has_a_size(plain: Shop, manifests: str) -> None:
    layer = plain.image("a", "1", b"layer")
    entries = f'{{"digest":"{layer}","size":5}},{{"digest":"sha384:00","size":7}}'
    content = f'{{"layers":[{entries}],"manifests":{manifests}}}'.encode()
    digest = Digest.of(content)
    plain.driver.write(layout.blob(digest), content)
    assert needed(plain.driver, digest) == {digest: len(content), layer: 5}


def test_a_repository_that_is_gone_is_no_problem(plain: Shop) -> None:
    plain.image("ci/app", "1", b"one")
    plain.driver.delete_tree(layout.repository(NAME))
    plain.collect(retention=Policy([Rule(CI, newest=1)]))
    with pytest.raises(ManifestUnknown):
        plain.repository("ci/app").tags.delete(Tag("1"))
