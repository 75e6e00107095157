"""Names that move: the order of writes, compare-and-set, deletion, and what damage does to lists."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from storage import layout, links
from storage.driver import ANYTHING, Anything, Driver
from storage.driver_errors import DriverError
from storage.drivers.memory import MemoryDriver
from storage.expectation import PRESENT, Expectation, described
from storage.model.digest import Digest
from storage.model.errors import ManifestUnknown, PreconditionFailed, Unavailable
from storage.model.reference import RepositoryName, Tag
from storage.tags import Tags

NAME = RepositoryName("team/app")
ONE, TWO, THREE = (Digest.of(content) for content in (b"1", b"2", b"3"))
TAG = Tag("latest")


@pytest.fixture
def tags(driver: Driver) -> Tags:
    for digest in (ONE, TWO, THREE):
        links.write(driver, layout.revision(NAME, digest), digest)
    return Tags(driver, NAME)


def names(tags: Tags, after: str = "", limit: int | None = None) -> list[str]:
    return [str(tag) for tag in tags.list(after=after, limit=limit)[0]]


def test_a_tag_is_two_links(driver: Driver, tags: Tags) -> None:
    tags.set(TAG, ONE)
    assert tags.current(TAG) == ONE
    assert driver.read(layout.tag_current(NAME, TAG)) == str(ONE).encode()
    assert driver.read(layout.tag_index(NAME, TAG, ONE)) == str(ONE).encode()


def test_a_tag_that_moves_remembers(driver: Driver, tags: Tags) -> None:
    tags.set(TAG, ONE)
    tags.set(TAG, TWO)
    assert tags.current(TAG) == TWO
    assert links.read(driver, layout.tag_index(NAME, TAG, ONE)) == ONE
    assert links.read(driver, layout.tag_index(NAME, TAG, TWO)) == TWO


class Recording(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.changes: list[str] = []

    def write(self, key: str, data: bytes) -> None:
        self.changes.append(f"write {key}")
        super().write(key, data)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        self.changes.append(f"swap {key}")
        super().swap(key, data, expected=expected)

    def delete_tree(self, prefix: str) -> None:
        self.changes.append(f"delete_tree {prefix}")
        super().delete_tree(prefix)


def test_current_comes_last_and_goes_first() -> None:
    driver = Recording()
    tags = Tags(driver, NAME)
    tags.set(TAG, ONE)
    current, index = layout.tag_current(NAME, TAG), layout.tag_index(NAME, TAG, ONE)
    assert driver.changes == [f"write {index}", f"swap {current}"]
    driver.changes.clear()
    tags.delete(TAG)
    assert driver.changes[0].startswith(f"write {layout.JOURNAL}/")
    assert driver.changes[1] == f"swap {current}"
    assert "delete_tree" in driver.changes[2]


def test_deletion_leaves_nothing(driver: Driver, tags: Tags) -> None:
    for digest in (ONE, TWO):
        tags.set(TAG, digest)
    tags.set(Tag("latest2"), ONE)
    tags.delete(TAG)
    assert names(tags) == ["latest2"]
    assert tags.current(TAG) is None
    assert [child.name for child in driver.list(layout.tags(NAME))] == ["latest2"]
    with pytest.raises(ManifestUnknown):
        tags.delete(TAG)


def test_a_ghost_that_a_crash_left_is_no_tag_and_goes(driver: Driver, tags: Tags) -> None:
    """Distribution deletes the index last as well, and dies in between like anybody."""
    links.write(driver, layout.tag_index(NAME, TAG, ONE), ONE)
    assert names(tags) == []
    assert tags.current(TAG) is None
    tags.delete(TAG)  # the retry of a deletion that was cut short succeeds
    assert list(driver.list(layout.tags(NAME))) == []
    with pytest.raises(ManifestUnknown):
        tags.delete(TAG)


def test_a_tag_whose_manifest_is_gone_is_absent(driver: Driver, tags: Tags) -> None:
    tags.set(TAG, ONE)
    tags.set(Tag("other"), TWO)
    driver.delete(layout.revision(NAME, ONE))
    assert names(tags) == ["other"]


@pytest.mark.parametrize("damaged", [b"", b"sha256:", b"\0" * 71])
def test_a_damaged_link_is_no_tag_until_it_is_pushed_again(
    driver: Driver, tags: Tags, damaged: bytes
) -> None:
    tags.set(TAG, ONE)
    driver.write(layout.tag_current(NAME, TAG), damaged)
    assert tags.current(TAG) is None
    assert names(tags) == []
    tags.set(TAG, TWO, expected=None)
    assert tags.current(TAG) == TWO
    driver.write(layout.tag_current(NAME, TAG), damaged)
    tags.delete(TAG)
    assert list(driver.list(layout.tags(NAME))) == []


def test_lists_are_in_byte_order_and_in_pages(driver: Driver, tags: Tags) -> None:
    given = ["v1", "V1", "1", "10", "2", "_x", "a.b", "a-b", "a", "A"]
    for name in given:
        tags.set(Tag(name), ONE)
    order = sorted(given)
    assert names(tags) == order
    for size in range(1, len(given) + 1):
        found: list[str] = []
        more = True
        while more:
            page, more = tags.list(after=found[-1] if found else "", limit=size)
            assert len(page) == size or not more
            found += map(str, page)
        assert found == order
    assert names(tags, after="a-z") == [name for name in order if name > "a-z"]
    assert tags.list(limit=0) == ([], True)


def test_what_is_no_tag_in_the_directory_is_passed_over(driver: Driver, tags: Tags) -> None:
    tags.set(TAG, ONE)
    driver.write(f"{layout.tags(NAME)}/.DS-Store/current/link", str(ONE).encode())
    driver.write(f"{layout.tags(NAME)}/{'x' * 129}/current/link", str(ONE).encode())
    assert names(tags) == ["latest"]


@pytest.mark.parametrize(
    ("held", "expected", "allowed"),
    [
        (None, None, True),
        (None, ONE, False),
        (ONE, None, False),
        (ONE, ONE, True),
        (ONE, TWO, False),
        (ONE, ANYTHING, True),
        (None, ANYTHING, True),
        (ONE, PRESENT, True),
        (None, PRESENT, False),
    ],
)
def test_compare_and_set(
    tags: Tags, held: Digest | None, expected: Expectation, allowed: bool
) -> None:
    if held is not None:
        tags.set(TAG, held)
    if allowed:
        tags.require(TAG, expected)
        tags.set(TAG, THREE, expected)
        assert tags.current(TAG) == THREE
        return
    with pytest.raises(PreconditionFailed):
        tags.require(TAG, expected)
    with pytest.raises(PreconditionFailed) as caught:
        tags.set(TAG, THREE, expected)
    assert tags.current(TAG) == held
    assert caught.value.detail == {
        "tag": "latest",
        "expected": described(expected),
        "actual": str(held or "absent"),
    }


def race(count: int, work: Callable[[int], None]) -> list[BaseException]:
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def one(number: int) -> None:
        barrier.wait(10)
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - the test looks at what it is
            failures.append(error)

    workers = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    return failures


@pytest.mark.parametrize("held", [None, ONE])
def test_of_many_who_compare_and_set_one_wins(tags: Tags, held: Digest | None) -> None:
    if held is not None:
        tags.set(TAG, held)
    targets = [Digest.of(bytes([number])) for number in range(20)]
    failures = race(20, lambda number: tags.set(TAG, targets[number], held))
    assert len(failures) == 19
    assert all(isinstance(failure, PreconditionFailed) for failure in failures)
    assert tags.current(TAG) in targets


def test_all_who_only_want_the_tag_to_be_there_succeed(tags: Tags) -> None:
    tags.set(TAG, ONE)
    targets = [Digest.of(bytes([number])) for number in range(20)]
    assert race(20, lambda number: tags.set(TAG, targets[number], PRESENT)) == []
    assert tags.current(TAG) in targets


class Restless(MemoryDriver):
    """Somebody else is always a little faster."""

    moves = 0

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        self.moves += 1
        super().write(key, str(Digest.of(b"move %d" % self.moves)).encode())
        super().swap(key, data, expected=expected)


def test_a_tag_that_never_rests_is_given_up() -> None:
    driver = Restless()
    tags = Tags(driver, NAME)
    driver.write(layout.tag_current(NAME, TAG), str(ONE).encode())
    with pytest.raises(Unavailable, match="so many at once"):
        tags.set(TAG, TWO, PRESENT)
    assert tags.current(TAG) != TWO


class TakenMeanwhile(MemoryDriver):
    """One tag that somebody creates just before it would be set."""

    taken: str

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        if key == self.taken:
            super().write(key, str(TWO).encode())
        super().swap(key, data, expected=expected)


def test_one_of_several_that_moves_stops_the_rest_and_says_which_were_set() -> None:
    driver = TakenMeanwhile()
    driver.taken = layout.tag_current(NAME, Tag("c"))
    tags = Tags(driver, NAME)
    with pytest.raises(PreconditionFailed) as caught:
        tags.set_all([Tag(name) for name in "abcd"], ONE, None)
    assert caught.value.detail == {
        "tag": "c",
        "expected": "absent",
        "actual": str(TWO),
        "set": ["a", "b"],
    }
    assert "Those set before it stay: a, b." in caught.value.message
    assert "Nothing was changed" not in caught.value.message
    assert [tags.current(Tag(name)) for name in "abcd"] == [ONE, ONE, TWO, None]


def test_the_first_of_several_that_moves_has_changed_nothing() -> None:
    driver = TakenMeanwhile()
    driver.taken = layout.tag_current(NAME, Tag("a"))
    tags = Tags(driver, NAME)
    with pytest.raises(PreconditionFailed, match="Nothing was changed") as caught:
        tags.set_all([Tag("a"), Tag("b")], ONE, None)
    assert "set" not in caught.value.detail
    assert tags.current(Tag("b")) is None


def test_all_who_just_set_succeed(tags: Tags) -> None:
    targets = [Digest.of(bytes([number])) for number in range(20)]
    assert race(20, lambda number: tags.set(TAG, targets[number])) == []
    assert tags.current(TAG) in targets


def test_tags_of_a_digest_go_and_others_stay(driver: Driver, tags: Tags) -> None:
    for name, digest in {"a": ONE, "b": TWO, "c": ONE}.items():
        tags.set(Tag(name), digest)
    tags.delete_pointing_to(ONE)
    assert names(tags) == ["b"]
    assert [child.name for child in driver.list(layout.tags(NAME))] == ["b"]


class Moving(MemoryDriver):
    """A tag that moves just when it is about to be deleted."""

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        if data is None and not isinstance(expected, Anything):
            super().write(key, str(TWO).encode())
        super().swap(key, data, expected=expected)


def test_a_tag_that_moves_while_its_manifest_is_deleted_stays() -> None:
    driver = Moving()
    for digest in (ONE, TWO):
        links.write(driver, layout.revision(NAME, digest), digest)
    tags = Tags(driver, NAME)
    tags.set(TAG, ONE)
    tags.delete_pointing_to(ONE)
    assert tags.current(TAG) == TWO
    assert names(tags) == ["latest"]


class Failing(MemoryDriver):
    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        raise DriverError("the disk is on fire")


def test_what_cannot_be_read_is_not_taken_for_absent() -> None:
    driver = Failing()
    driver.write(layout.tag_current(NAME, TAG), b"")
    tags = Tags(driver, NAME)
    with pytest.raises(Unavailable):
        tags.list()
    with pytest.raises(Unavailable):
        tags.delete(TAG)
