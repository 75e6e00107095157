from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("168h", 604_800.0),
        ("1h30m", 5400.0),
        ("10s", 10.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("+3s", 3.0),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("1μs", 1e-6),
        ("7ns", 7e-9),
        ("0", 0.0),
        ("0s", 0.0),
        (" 5m ", 300.0),
        ("1m1m", 120.0),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("60", "no unit"),
        ("10000000000", "nanoseconds"),
        ("1.5", "no unit"),
        ("-5s", "negative"),
        ("", "not a duration"),
        ("s", "not a duration"),
        (".s", "not a duration"),
        ("5 s", "not a duration"),
        ("5d", "not a duration"),
        ("5s!", "not a duration"),
        ("1e3s", "not a duration"),
        ("٣s", "not a duration"),
        ("9" * 18 + "h", "292 years"),
        ("1s" * 200, "not a duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(604_800, "168h"), (5400, "1h30m"), (0, "0s"), (0.5, "500ms"), (75, "1m15s"), (1e-9, "1ns")],
)
def test_durations_are_written_in_the_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**15))
def test_what_is_written_is_read_back(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)
