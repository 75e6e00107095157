"""The bounded memory."""

from __future__ import annotations

import threading

import pytest

from storage.cache import Cache


def test_the_least_recently_used_goes_first() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert len(cache) == 2


def test_weights_count() -> None:
    cache: Cache[str, bytes] = Cache(10, len)
    cache.put("a", b"12345")
    cache.put("b", b"1234")
    assert len(cache) == 2
    cache.put("c", b"12")
    assert cache.get("a") is None
    cache.put("b", b"12345678")
    assert len(cache) == 2
    cache.put("b", b"123456789")
    assert cache.get("c") is None
    assert cache.get("b") == b"123456789"


def test_what_is_heavier_than_all_is_not_kept() -> None:
    cache: Cache[str, bytes] = Cache(10, len)
    cache.put("a", b"1")
    cache.put("b", b"0" * 11)
    assert cache.get("b") is None
    cache.put("c", b"0" * 10)
    assert cache.get("c") == b"0" * 10


def test_a_value_that_is_false_is_a_value() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 0)
    assert cache.get("a") == 0


@pytest.mark.parametrize("limit", [0, 1])
def test_small_limits(limit: int) -> None:
    cache: Cache[int, int] = Cache(limit)
    for number in range(5):
        cache.put(number, number)
    assert len(cache) == limit


def test_hits_and_misses_are_observed() -> None:
    seen: list[bool] = []
    cache: Cache[str, int] = Cache(1, observe=seen.append)
    cache.get("a")
    cache.put("a", 1)
    cache.get("a")
    assert seen == [False, True]


def test_threads() -> None:
    cache: Cache[int, bytes] = Cache(1000, len)

    def work(seed: int) -> None:
        for number in range(2000):
            key = (number * seed) % 97
            cache.put(key, bytes(key))
            value = cache.get((number + seed) % 97)
            assert value is None or len(value) == (number + seed) % 97

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert cache._weight == sum(map(len, cache._entries.values())) <= 1000
