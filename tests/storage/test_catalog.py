"""The list of repositories, in pages."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import layout, links
from storage.catalog import Catalog
from storage.driver import Child, Driver
from storage.driver_errors import Unavailable
from storage.drivers.memory import MemoryDriver
from storage.model import errors
from storage.model.digest import Digest
from storage.model.reference import RepositoryName
from storage.presence import exists

DIGEST = Digest.of(b"")


def fill(driver: Driver, names: Iterable[str]) -> None:
    for name in names:
        links.write(driver, layout.revision(RepositoryName(name), DIGEST), DIGEST)


def listed(driver: Driver, after: str = "", limit: int = 1000) -> list[str]:
    names, _ = Catalog(driver).list(after=after, limit=limit)
    return [str(name) for name in names]


NAMES = ["a-b", "a-b/c", "a", "a/b", "a/b/c", "a0", "b/c", "ab", "z"]
ORDER = sorted(NAMES, key=lambda name: f"{name}/")


def test_the_order_is_that_of_keys(driver: Driver) -> None:
    fill(driver, NAMES)
    assert listed(driver) == ORDER
    assert ORDER.index("a-b") < ORDER.index("a") < ORDER.index("a/b") < ORDER.index("a0")


def test_nothing(driver: Driver) -> None:
    assert listed(driver) == []
    assert Catalog(driver).list(limit=5) == ([], False)


@pytest.mark.parametrize("size", range(1, len(NAMES) + 2))
def test_pages_fit_together(driver: Driver, size: int) -> None:
    fill(driver, NAMES)
    found: list[str] = []
    more = True
    while more:
        names, more = Catalog(driver).list(after=found[-1] if found else "", limit=size)
        assert len(names) == size or not more
        found += map(str, names)
    assert found == ORDER


@pytest.mark.parametrize("after", ["a", "a/b", "a/bb", "a-", "0", "zz", "b", "b/c/d", "a/b/c/d/e"])
def test_a_page_can_begin_anywhere(driver: Driver, after: str) -> None:
    fill(driver, NAMES)
    expected = [name for name in ORDER if f"{name}/" > f"{after}/"]
    assert listed(driver, after) == expected


def test_a_directory_without_manifests_is_no_repository(driver: Driver) -> None:
    name = RepositoryName("only/blobs")
    links.write(driver, layout.layer(name, DIGEST), DIGEST)
    driver.write(layout.upload_started(name, "some-id"), b"")
    assert not exists(driver, name)
    assert listed(driver) == []
    fill(driver, ["only/blobs/below"])
    assert listed(driver) == ["only/blobs/below"]


@pytest.mark.parametrize("litter", ["Upper/x", "lost..found/x", ".hidden/x", "_own/x", "a file"])
def test_litter_is_passed_over(driver: Driver, litter: str) -> None:
    fill(driver, ["a"])
    key = f"{layout.REPOSITORIES}/{litter.replace(' ', '-')}/_manifests/revisions/sha256/x/link"
    driver.write(key, b"x")
    driver.write(f"{layout.REPOSITORIES}/loose-file", b"x")
    assert "a" in listed(driver)
    assert set(listed(driver)) <= {"a", "a-file"}


class Watched(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.listed: list[str] = []

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        self.listed.append(prefix)
        return super().list(prefix, after=after)


def test_a_page_does_not_walk_what_is_not_on_it() -> None:
    driver = Watched()
    fill(driver, [f"r{number:03}/app" for number in range(200)])
    driver.listed.clear()
    assert listed(driver, "r100/app", 3) == ["r101/app", "r102/app", "r103/app"]
    assert len(driver.listed) < 30


COMPONENT = st.sampled_from(["a", "b", "a-b", "a.b", "a0", "0", "a__b"])
NAME = st.lists(COMPONENT, min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.sets(NAME, max_size=12), NAME, st.integers(1, 5))
def test_every_page_is_a_slice_of_the_whole(names: set[str], after: str, limit: int) -> None:
    driver = MemoryDriver()
    fill(driver, names)
    order = sorted(names, key=lambda name: f"{name}/")
    assert listed(driver) == order
    rest = [name for name in order if f"{name}/" > f"{after}/"]
    found, more = Catalog(driver).list(after=after, limit=limit)
    assert [str(name) for name in found] == rest[:limit]
    assert more is (len(rest) > limit)


class Refusing(MemoryDriver):
    """Fails to list what is below `prefix`, for a reason."""

    def __init__(self, prefix: str, cause: OSError) -> None:
        super().__init__()
        self._prefix = prefix
        self._cause = cause

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        if prefix.startswith(self._prefix):
            raise Unavailable(f"list {prefix}: it failed") from self._cause
        return super().list(prefix, after=after)


FORBIDDEN = PermissionError(errno.EACCES, "Permission denied")


def test_a_repository_that_may_not_be_read_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = Refusing(f"{layout.REPOSITORIES}/team/lib", FORBIDDEN)
    fill(driver, ["team/app", "team/lib", "team/lib/below", "team/tool", "zoo"])
    assert listed(driver) == ["team/app", "team/tool", "zoo"]
    assert listed(driver, after="team/lib/below") == ["team/tool", "zoo"]
    for record in caplog.records:
        assert record.levelname == "WARNING"
        assert "team/lib" in record.getMessage()
    assert caplog.records


def test_one_whose_manifests_may_not_be_read_hides_none_below_it() -> None:
    driver = Refusing(layout.manifests(RepositoryName("a")), FORBIDDEN)
    fill(driver, ["a", "a/b", "c"])
    assert listed(driver) == ["a/b", "c"]


@pytest.mark.parametrize(
    ("prefix", "cause"),
    [
        (layout.REPOSITORIES, FORBIDDEN),
        (f"{layout.REPOSITORIES}/b", OSError(errno.EIO, "Input/output error")),
        (f"{layout.REPOSITORIES}/b", OSError(errno.ESTALE, "Stale file handle")),
    ],
)
def test_no_other_failure_is_taken_for_an_absence(prefix: str, cause: OSError) -> None:
    driver = Refusing(prefix, cause)
    fill(driver, ["a", "b", "c"])
    with pytest.raises(errors.Unavailable):
        listed(driver)


def test_whoever_walks_the_whole_store_is_told_what_cannot_be_read() -> None:
    driver = Refusing(f"{layout.REPOSITORIES}/b", FORBIDDEN)
    fill(driver, ["a", "b", "c"])
    with pytest.raises(Unavailable):
        list(Catalog(driver).walk())
