"""Pages of tags in byte order, out of listings in another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.model.reference import Tag
from storage.tag_pages import page
from tests.storage.remote import RemoteMemory

AWKWARD = [
    "1",
    "1-a",
    "1.0",
    "1.0-rc",
    "1.0-rc.1",
    "1.0.1",
    "10",
    "1_",
    "a",
    "a-",
    "a.b-c",
    "a0",
    "A",
]


def stored(tags: list[str]) -> RemoteMemory:
    driver = RemoteMemory()
    for tag in tags:
        driver.write(f"tags/{tag}/current/link", b"x")
        driver.write(f"tags/{tag}/index/sha256/00/link", b"x")
    return driver


def pages(driver: RemoteMemory, limit: int) -> list[list[str]]:
    found: list[list[str]] = []
    after, more = "", True
    while more:
        tags, more = page(driver, "tags", after=after, limit=limit)
        found.append([tag.value for tag in tags])
        after = found[-1][-1] if found[-1] else after
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_are_in_byte_order_and_full(limit: int) -> None:
    found = pages(stored(AWKWARD), limit)
    assert [name for names in found for name in names] == sorted(AWKWARD)
    assert all(len(names) == limit for names in found[:-1])


_TAGS = st.text("01a.-_", min_size=1, max_size=6).filter(lambda text: text[0] not in ".-")


@given(st.sets(_TAGS, min_size=1, max_size=60), st.integers(1, 7), _TAGS)
def test_any_names(names: set[str], limit: int, after: str) -> None:
    driver = stored(list(names))
    assert [name for part in pages(driver, limit) for name in part] == sorted(names)
    tags, more = page(driver, "tags", after=after, limit=limit)
    rest = sorted(name for name in names if name > after)
    assert tags == [Tag(name) for name in rest[:limit]]
    assert more == (len(rest) > limit)
    assert page(driver, "tags", after=after, limit=None) == ([Tag(name) for name in rest], False)


def test_a_page_of_a_thousand_costs_few_listings() -> None:
    driver = stored([f"1.{major}.{minor}-rc.1" for major in range(50) for minor in range(60)])
    driver.asked.clear()
    tags, more = page(driver, "tags", after="", limit=1000)
    assert (len(tags), more) == (1000, True)
    assert driver.asked["list"] == 1
    assert driver.asked["stat"] <= 4  # of what the last name begins with
    assert set(driver.asked) == {"list", "stat"}


def test_what_is_no_tag_is_passed_over() -> None:
    driver = stored(["1"])
    driver.write(f"tags/{'x' * 129}/current/link", b"x")
    assert page(driver, "tags", after="", limit=10) == ([Tag("1")], False)
