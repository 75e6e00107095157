"""A look that is not finished, kept in the storage for the next run.

The publication of the run that kept it names it, and so do those of the runs that go on with it, until one
of them publishes what came out of it. So where all publications name it, what is condemned is what it was
when the look began, and has been so without a gap: every push since that relies on any of it has left
a note, or will wait. That the look was slow is all that can be said against it, and a slow look is safe.
Where any other run came between, or what is asked for is another thing, a look begins anew.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from registry_gc.adoption import Others
from registry_gc.look import Look, Totals
from registry_gc.options import DAY, Options
from registry_gc.spill import SHARDS
from registry_gc.store_clock import store_time
from storage import layout
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound

log = logging.getLogger("holdfast.collection")

LASTING = 7 * DAY
PART = 8 * 1024 * 1024
"""Characters of an object, before they are compressed."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a look before its lines are read."""

    key: str
    """Empty: there is none that counts."""
    value: dict[str, Any]


NONE = Head("", {})


def terms(options: Options) -> str:
    """What a look depends on, beside the storage: with another configuration it is another look."""
    asked = (
        metadata.version("holdfast"),
        options.minimum_age,
        options.undo,
        options.untagged,
        options.again,
        options.retention,
        options.timing,
        *sorted(map(str, options.ignore)),
    )
    return repr(asked)


def find(driver: Driver, others: Others, options: Options) -> Head:
    """The look that this run may go on with. Raises the driver's errors."""
    keys = {publication.look for publication in others.finished}
    if options.offline or not any(keys):
        return NONE
    if others.active or len(keys) != 1:
        return _anew("another run came between")
    (key,) = keys
    try:
        value = json.loads(driver.read(key))
        begun, made_for = float(value["begun"]), value["terms"]
    except (ObjectNotFound, ValueError, KeyError, TypeError) as error:
        return _anew(f"it cannot be read ({error})")
    if made_for != terms(options):
        return _anew("the configuration, the options or the version are others now")
    age = store_time(driver) - begun
    if age < 0:
        return _anew("it began later than it is now by the storage's clock, which was set back")
    if age > LASTING:
        return _anew("it is more than a week old")
    return Head(key, value)


def load(driver: Driver, head: Head, look: Look, beat: Callable[[], None]) -> bool:
    """Fill `look`, which is new; False if that cannot be done, and it is of no use any more.

    `beat` is called between objects. Raises the driver's errors.
    """
    value = head.value
    kinds = {kind: getattr(look, name) for kind, name in KINDS.items()}
    try:
        for number in range(int(value["parts"])):
            beat()
            lines = zlib.decompress(driver.read(_part(head.key, number))).decode()
            for line in lines.split("\n"):
                if line[0] == NAME:
                    look.names.append(line[1:])
                else:
                    kinds[line[0]].add(int(line[1:3], 16), line[3:])
        look.begun = float(value["begun"])
        look.after = str(value["after"])
        look.surveyed = bool(value["surveyed"])
        look.shard = int(value["shard"])
        look.published = bool(value["published"])
        look.totals = Totals(**value["totals"])
        look.settled = (look.totals.copy() if look.surveyed else look.totals, value["judgement"])
    except (ObjectNotFound, ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
        _anew(f"it cannot be read ({error})")
        return False
    return True


def save(driver: Driver, run: str, look: Look, options: Options, beat: Callable[[], None]) -> str:
    """The key of what was written. Raises the driver's errors."""
    key = layout.of_run(run, "look")
    parts = 0
    for part in _parts(look):
        beat()
        driver.write(_part(key, parts), zlib.compress(part.encode(), 1))
        parts += 1
    totals, judgement = look.settled
    value = {
        "terms": terms(options),
        "begun": look.begun,
        "after": look.after,
        "surveyed": look.surveyed,
        "shard": look.shard,
        "published": look.published,
        "totals": asdict(totals),
        "judgement": judgement,
        "parts": parts,
    }
    driver.write(key, json.dumps(value).encode())
    return key


NAME = "r"
KINDS = {"n": "needed", "l": "links", "m": "manifests", "c": "condemned", "d": "due"}


def _parts(look: Look) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for line in _lines(look):
        held.append(line)
        size += len(line) + 1
        if size >= PART:
            yield "\n".join(held)
            held, size = [], 0
    if held:
        yield "\n".join(held)


def _lines(look: Look) -> Iterator[str]:
    """Of what is yet to be done with it, no more."""
    if look.published:
        yield from (f"d00{line}" for line in look.pending())
        return
    yield from (f"{NAME}{name}" for name in look.names)
    for kind, name in KINDS.items():
        judged = kind in "cd"
        for shard in range(look.shard) if judged else range(look.shard, SHARDS):
            for line in getattr(look, name).lines(shard):
                if kind != "n" or look.surveyed or _number(line) < len(look.names):
                    yield f"{kind}{shard:02x}{line}"


def _number(needed: str) -> int:
    """Of the repository; the last one may not have been got through, and has no name yet."""
    return int(needed.rpartition(" ")[2])


def _part(key: str, number: int) -> str:
    return f"{key}-{number:06d}"


def _anew(why: str) -> Head:
    log.warning("the look at the storage that the last run began is not gone on with: %s", why)
    return NONE
