from __future__ import annotations

import pytest

from auth.model import Throttled
from auth.throttle import Limit, Throttle
from tests.auth.accountfiles import Clock

ACCOUNT = Limit(free=3, first=1.0, longest=60.0)
ADDRESS = Limit(free=6, first=1.0, longest=900.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(per_account=ACCOUNT, per_address=ADDRESS, entries=100, clock=clock)


def _fail(throttle: Throttle, account: str, address: str, times: int) -> None:
    for _ in range(times):
        throttle.attempt(account, address)


def _wait(throttle: Throttle, account: str, address: str) -> int:
    with pytest.raises(Throttled) as refused:
        throttle.attempt(account, address)
    assert str(refused.value.retry_after) in refused.value.reason
    return refused.value.retry_after


def test_delays_grow_to_their_longest(throttle: Throttle, clock: Clock) -> None:
    _fail(throttle, "alice", "", 3)
    waited = []
    for _ in range(9):
        seconds = _wait(throttle, "alice", "")
        clock.pass_(seconds - 0.1)
        _wait(throttle, "alice", "")
        clock.pass_(0.1)
        throttle.attempt("alice", "")
        waited.append(seconds)
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_many_at_once_gain_nothing(throttle: Throttle) -> None:
    _fail(throttle, "alice", "192.0.2.1", 3)  # none of which has been answered
    _wait(throttle, "alice", "192.0.2.2")


def test_others_are_not_concerned(throttle: Throttle) -> None:
    _fail(throttle, "alice", "192.0.2.1", 3)
    throttle.attempt("bob", "192.0.2.1")


def test_an_address_is_throttled_over_all_accounts(throttle: Throttle, clock: Clock) -> None:
    for number in range(6):
        throttle.attempt(f"user{number}", "192.0.2.1")
    assert _wait(throttle, "another", "192.0.2.1") == 1
    assert _wait(throttle, "", "192.0.2.1") == 1
    throttle.attempt("another", "192.0.2.2")
    clock.pass_(3601)
    throttle.attempt("another", "192.0.2.1")


def test_a_network_of_ipv6_is_one_address(throttle: Throttle) -> None:
    for number in range(6):
        throttle.attempt(f"user{number}", f"2001:db8::{number}%eth0")
    _wait(throttle, "another", "2001:db8::ffff")
    throttle.attempt("another", "2001:db8:0:1::1")
    for number in range(6):
        throttle.attempt(f"user{number}", "::ffff:192.0.2.9" if number % 2 else "192.0.2.9")
    _wait(throttle, "another", "192.0.2.9")


def test_success_is_no_failure(throttle: Throttle) -> None:
    for _ in range(50):
        throttle.succeeded(throttle.attempt("alice", "192.0.2.1"))
        throttle.withdrawn(throttle.attempt("bob", "192.0.2.1"))
    throttle.attempt("carol", "192.0.2.1")


def test_one_s_own_log_in_forgives_no_others(throttle: Throttle) -> None:
    for number in range(6):
        throttle.attempt(f"user{number}", "192.0.2.1")
        if number < 5:
            throttle.succeeded(throttle.attempt("mallory", "192.0.2.1"))
    _wait(throttle, "alice", "192.0.2.1")


def test_nobody_locks_the_owner_out(throttle: Throttle, clock: Clock) -> None:
    throttle.succeeded(throttle.attempt("alice", "192.0.2.1"))
    _fail(throttle, "alice", "198.51.100.1", 3)
    _wait(throttle, "alice", "198.51.100.1")
    _wait(throttle, "alice", "198.51.100.2")
    throttle.succeeded(throttle.attempt("alice", "192.0.2.1"))
    clock.pass_(24 * 3600 + 1)
    _fail(throttle, "alice", "198.51.100.1", 3)
    _wait(throttle, "alice", "192.0.2.1")  # not known any more


def test_from_a_known_address_failures_count_too(throttle: Throttle) -> None:
    throttle.succeeded(throttle.attempt("alice", "192.0.2.1"))
    _fail(throttle, "alice", "192.0.2.1", 3)
    _wait(throttle, "alice", "192.0.2.1")


def test_what_succeeds_late_takes_back_what_it_counted(throttle: Throttle) -> None:
    first, second = (throttle.attempt("alice", "192.0.2.1") for _ in range(2))
    throttle.succeeded(first)
    throttle.succeeded(second)  # counted before the address was known
    _fail(throttle, "alice", "198.51.100.1", 3)


def test_memory_is_bounded(throttle: Throttle) -> None:
    for number in range(1000):
        attempt = throttle.attempt(
            "x" * 10_000 + str(number), f"10.0.{number // 250}.{number % 250}"
        )
        if number % 2:
            throttle.succeeded(attempt)
    assert len(throttle._accounts) <= 100
    assert len(throttle._addresses) <= 100
    assert len(throttle._known) <= 100
    assert all(len(key) == 16 for key in throttle._accounts._counts if isinstance(key, bytes))


def test_nothing_overflows(throttle: Throttle, clock: Clock) -> None:
    for _ in range(3000):
        clock.pass_(61)
        throttle.attempt("alice", "")
    assert _wait(throttle, "alice", "") == 60
