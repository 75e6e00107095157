"""Durations as Go writes them (`time.ParseDuration`): `168h`, `1h30m`, `1.5s`, `500ms`, `0`."""

from __future__ import annotations

import re
from decimal import Decimal

_NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ns": 1,
}
_PART = re.compile(r"(\d{1,19}(?:\.\d{0,19})?|\.\d{1,19})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_BARE = re.compile(r"[+-]?\d+(?:\.\d*)?", re.ASCII)
_LONGEST = 2**63 - 1  # what Distribution can hold, in nanoseconds
_LONGEST_TEXT = 100
_EXAMPLES = "write a number and a unit, such as 90s, 10m, 1h30m or 500ms"


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError with a sentence.

    A bare number is refused, 0 excepted: Distribution takes it as nanoseconds, and whoever wrote it
    meant something else.
    """
    body = text.strip()
    if body in {"0", "+0"}:
        return 0.0
    if _BARE.fullmatch(body):
        raise ValueError(
            f"{text[:40]!r} has no unit (Distribution would take it as nanoseconds); {_EXAMPLES}"
        )
    if body.startswith("-"):
        raise ValueError(f"{text[:40]!r} is negative; {_EXAMPLES}")
    nanoseconds = _nanoseconds(body.removeprefix("+"))
    if nanoseconds is None:
        raise ValueError(f"{text[:40]!r} is not a duration; {_EXAMPLES}")
    if nanoseconds > _LONGEST:
        raise ValueError(f"{text[:40]!r} is longer than 292 years; write a shorter duration")
    return float(nanoseconds / 1_000_000_000)


def format_duration(seconds: float) -> str:
    """What parse_duration() reads, in the largest units that fit: `168h`, `1h30m`, `500ms`."""
    left = round(seconds * 1_000_000_000)
    text = ""
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        count, left = divmod(left, _NANOSECONDS[unit])
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def _nanoseconds(body: str) -> Decimal | None:
    if not body or len(body) > _LONGEST_TEXT:
        return None
    total, position = Decimal(0), 0
    while position < len(body):
        part = _PART.match(body, position)
        if part is None:
            return None
        total += Decimal(part[1]) * _NANOSECONDS[part[2]]
        position = part.end()
    return total
