"""What a look finds in a damaged tree, and what it mends, on every storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from registry_gc.fsck.examine import Examination
from registry_gc.fsck.findings import Finding, Kind, Summary
from registry_gc.fsck.repair import Repairs
from registry_gc.fsck.scrub import STATE, Pace, scrub

from storage import layout, links
from storage.collection import entries
from storage.collection.guard import Guard
from storage.driver_errors import ObjectNotFound, Unavailable
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from tests.gc.shop import IMAGE, Shop, descriptor

ONE, TWO = b"one", b"two"
A = RepositoryName("a")
Damage = Callable[[Shop, Digest], None]


@dataclass
class Look:
    findings: list[Finding] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)

    @property
    def kinds(self) -> list[Kind]:
        return [finding.kind for finding in self.findings]


def look(shop: Shop, *, repair: bool = False) -> Look:
    done = Look()
    repairs = Repairs(shop.driver, Guard(shop.driver)) if repair else None
    examination = Examination(shop.driver, repairs, done.findings.append)
    examination.run()
    done.summary = examination.summary
    return done


def scrubbed(shop: Shop, *, repair: bool = False, rate: float = 0) -> Look:
    done = Look()
    repairs = Repairs(shop.driver, Guard(shop.driver)) if repair else None
    scrub(shop.driver, repairs, done.findings.append, done.summary, Pace(rate))
    return done


def layer(content: bytes) -> str:
    return layout.layer(A, Digest.of(content))


def lose(shop: Shop, key: str) -> None:
    shop.driver.delete(key)


def spoil(shop: Shop, key: str) -> None:
    shop.driver.write(key, b"")


def test_a_sound_tree_is_sound(shop: Shop) -> None:
    image = shop.image("a", "1", ONE, TWO)
    shop.index("a/b/c", "1", [shop.image("a/b/c", None, ONE)])
    shop.image("a", None, b"signature", subject=shop.content(image))
    shop.image("c", "512", ONE, algorithm="sha512")
    before = shop.tree()
    assert look(shop, repair=True).findings == []
    assert shop.tree() == before
    summary = look(shop).summary
    assert (summary.repositories, summary.manifests, summary.tags) == (3, 5, 3)
    assert summary.left == 0


def _revision(digest: Digest) -> str:
    return layout.revision(A, digest)


MENDED: dict[Kind, Damage] = {
    Kind.DAMAGED_LINK: lambda shop, image: spoil(shop, _revision(image)),
    Kind.LINK_MISSING: lambda shop, image: lose(shop, layer(ONE)),
    Kind.GHOST_TAG: lambda shop, image: shop.driver.write(
        layout.tag_current(A, Tag("ghost")), links.encode(Digest.of(b"nothing"))
    ),
    Kind.DANGLING_LINK: lambda shop, image: links.write(
        shop.driver, layer(b"nothing"), Digest.of(b"nothing")
    ),
}


@pytest.mark.parametrize("kind", MENDED, ids=lambda kind: kind.text)
def test_what_can_be_mended_is(shop: Shop, kind: Kind) -> None:
    image = shop.image("a", "1", ONE, TWO)
    whole = shop.tree()
    MENDED[kind](shop, image)
    before = shop.tree()
    found = look(shop)
    assert kind in found.kinds
    assert found.summary.repaired == 0
    assert shop.tree() == before, "a look writes nothing"
    mended = look(shop, repair=True)
    assert mended.summary.left == 0, mended.findings
    assert look(shop).findings == []
    assert shop.pulls("a", image)
    assert shop.tree() == whole


def test_a_damaged_link_of_a_layer_is_mended(shop: Shop) -> None:
    image = shop.image("a", "1", ONE)
    spoil(shop, layer(ONE))
    assert not shop.pulls("a", image)
    assert look(shop, repair=True).kinds == [Kind.DAMAGED_LINK]
    assert shop.pulls("a", image)


def test_a_child_whose_bytes_are_there_is_linked(shop: Shop) -> None:
    child = shop.image("a", None, ONE)
    index = shop.index("a", "1", [child])
    lose(shop, _revision(child))
    assert look(shop).kinds == [Kind.CHILD_UNLINKED]
    assert look(shop, repair=True).summary.left == 0
    assert shop.pulls("a", index)


def test_what_is_lost_is_named_and_a_push_mends_it(shop: Shop) -> None:
    image = shop.image("a", "1", ONE)
    lose(shop, layout.blob(Digest.of(ONE)))
    found = look(shop, repair=True)
    assert set(found.kinds) == {Kind.BLOB_MISSING, Kind.DANGLING_LINK}
    lost = next(each for each in found.findings if each.kind is Kind.BLOB_MISSING)
    assert str(image) in lost.sentence
    assert "push the image again" in lost.sentence
    assert found.summary.left == 1
    shop.image("a", "1", ONE)
    assert look(shop).findings == []


def test_a_lost_manifest_and_a_lost_child_are_named(shop: Shop) -> None:
    children = [shop.image("a", None, ONE), shop.image("a", None, TWO)]
    shop.index("a", "1", children)
    lose(shop, layout.blob(children[0]))
    lose(shop, layout.blob(children[1]))
    lose(shop, _revision(children[1]))
    assert set(look(shop, repair=True).kinds) == {Kind.MANIFEST_MISSING, Kind.CHILD_MISSING}


def test_a_damaged_manifest_is_set_aside_so_that_a_push_mends_it(shop: Shop) -> None:
    image = shop.image("a", "1", ONE)
    shop.driver.write(layout.blob(image), b'{"schemaVersion": 2}')
    assert look(shop, repair=True).kinds == [Kind.MANIFEST_DAMAGED]
    assert not shop.has_blob(image)
    assert shop.image("a", "1", ONE) == image
    assert look(shop).findings == []


def test_a_size_that_is_not_what_the_manifest_says(shop: Shop) -> None:
    shop.image("a", "1", ONE)
    shop.driver.write(layout.blob(Digest.of(ONE)), b"another length")
    assert look(shop, repair=True).kinds == [Kind.BLOB_DAMAGED]
    assert shop.has_blob(Digest.of(ONE)), "which of the two lies, only a scrub can tell"


def test_layers_that_are_elsewhere_are_not_missed(shop: Shop) -> None:
    foreign = descriptor(TWO, "application/vnd.oci.image.layer.nondistributable.v1.tar")
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(b"{}", "application/json"),
        "layers": [{**foreign, "urls": ["https://example.com/layer"]}],
    }
    shop.blob("a", b"{}")
    shop.manifest("a", "1", document)
    assert look(shop).findings == []


def test_a_name_that_can_be_no_repository_is_told(shop: Shop) -> None:
    shop.image("a", "1", ONE)
    shop.driver.write(f"{layout.REPOSITORIES}/UPPER/_layers/sha256/{'0' * 64}/link", b"x")
    assert Kind.STRANGE_NAME in look(shop, repair=True).kinds


def test_a_tag_that_was_pushed_meanwhile_stays(plain: Shop) -> None:
    image = plain.image("a", "1", ONE)
    repairs = Repairs(plain.driver, Guard(plain.driver))
    held = links.encode(Digest.of(b"what it was"))
    done: list[Finding] = []
    examination = Examination(plain.driver, repairs, done.append)
    examination._find(
        Kind.GHOST_TAG, "key", "It is a ghost.", lambda: repairs.forget_tag(A, Tag("1"), held)
    )
    assert [finding.repaired for finding in done] == [False]
    assert "not repaired" in done[0].sentence
    assert plain.repository("a").tags.current(Tag("1")) == image


def test_a_tag_that_was_cut_short_is_no_damage(plain: Shop) -> None:
    """The history is written before the tag, and removed after it."""
    image = plain.image("a", "1", ONE)
    whole = plain.tree()
    links.write(plain.driver, layout.tag_index(A, Tag("2"), image), image)
    found = look(plain)
    assert (found.findings, found.summary.tags, found.summary.cut_short) == ([], 1, 1)
    assert look(plain, repair=True).findings == []
    assert plain.tree() == whole
    assert look(plain).summary.cut_short == 0


def test_a_tag_that_is_pushed_while_its_history_is_removed_stays(plain: Shop) -> None:
    image = plain.image("a", "1", ONE)
    Repairs(plain.driver, Guard(plain.driver)).forget_tag(A, Tag("1"), None)
    assert plain.repository("a").tags.current(Tag("1")) == image


def test_nothing_is_linked_that_the_collector_is_about_to_remove(plain: Shop) -> None:
    plain.image("a", "1", ONE)
    lose(plain, layer(ONE))
    publication = (
        f'{{"version":1,"filters":[],"lists":[],"doomed":["{entries.blob(Digest.of(ONE))}"],'
        '"idle":false}'
    )
    plain.driver.write(layout.publication("run", 1), publication.encode())
    found = look(plain, repair=True)
    assert found.kinds == [Kind.LINK_MISSING]
    assert found.summary.left == 1
    assert layer(ONE) not in plain.tree()


def test_what_cannot_be_read_is_not_called_sound(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.image("a", "1", ONE)

    def fail(*_: object, **__: object) -> bytes:
        raise Unavailable("the disk does not answer")

    monkeypatch.setattr(plain.driver, "read", fail)
    with pytest.raises(Unavailable):
        look(plain)


def test_a_scrub_finds_what_rotted_and_puts_it_aside(shop: Shop) -> None:
    image = shop.image("a", "1", ONE, TWO)
    shop.driver.write(layout.blob(Digest.of(ONE)), b"eno")
    assert look(shop).findings == [], "as long as it should be"
    found = scrubbed(shop)
    assert found.kinds == [Kind.BLOB_DAMAGED]
    assert (found.summary.scrubbed, found.summary.left) == (4, 1)
    assert shop.has_blob(Digest.of(ONE))
    assert scrubbed(shop, repair=True).summary.left == 0
    assert not shop.has_blob(Digest.of(ONE))
    shop.image("a", "1", ONE, TWO)
    assert scrubbed(shop).findings == []
    assert shop.pulls("a", image)


def test_a_scrub_that_was_stopped_goes_on(plain: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        plain.blob("a", b"blob %d" % number)
    whole = scrubbed(plain).summary.scrubbed
    sound_open = plain.driver.open
    opened: list[str] = []

    def stopping(key: str) -> object:
        if len(opened) == whole // 2:
            raise Unavailable("stopped")
        opened.append(key)
        return sound_open(key)

    with monkeypatch.context() as patched:
        patched.setattr(plain.driver, "open", stopping)
        with pytest.raises(Unavailable):
            scrubbed(plain)
    rest = scrubbed(plain).summary.scrubbed
    assert whole - len(opened) <= rest < whole
    assert scrubbed(plain).summary.scrubbed == whole, "the next one is a whole one"


def test_a_note_of_a_scrub_that_nobody_can_read_begins_anew(plain: Shop) -> None:
    plain.blob("a", ONE)
    plain.driver.write(STATE, b"rubbish")
    assert scrubbed(plain).summary.scrubbed == 1


def test_a_pace_is_kept() -> None:
    now, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    pace = Pace(10.0, lambda: now, sleep)
    for _ in range(5):
        pace.read(10)
    assert sum(slept) == pytest.approx(5.0)


def test_a_blob_that_goes_while_it_is_scrubbed_is_no_damage(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.blob("a", ONE)

    def gone(key: str) -> None:
        raise ObjectNotFound(key)

    monkeypatch.setattr(plain.driver, "open", gone)
    assert scrubbed(plain).findings == []
