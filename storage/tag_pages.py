"""A page of a repository's tags where a listing costs requests: from the listing alone.

An object store lists by `name + "/"`, so `1.0-rc` comes before `1.0`; clients are promised byte order.
The two differ only for a name that is another's beginning, up to a `-` or `.` of it. Of what was listed
up to some name, only such beginnings of that last name can be missing, and they are asked for one by one.
So a page costs one listing request per thousand names, and as many look-ups, which are cheaper than
listings, as the last name has dots and dashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.errors import TagInvalid
from storage.model.reference import Tag


def page(driver: Driver, prefix: str, *, after: str, limit: int | None) -> tuple[list[Tag], bool]:
    """At most `limit` tags in byte order after `after`, or all, and whether there are more.

    A tag whose deletion was cut short may be among them: to tell would take a request for each.
    """
    # "," is less than every character of a tag: what begins with `after` and goes on is listed too.
    listed = _names(driver, prefix, f"{after}," if after else "")
    if limit is None:
        return [Tag(name) for name in sorted(listed) if name > after], False
    # `after` itself is listed too, and so may be what it begins with.
    enough = limit + 2 + sum(map(after.count, "-."))
    names = list(islice(listed, enough))
    found = {name for name in names if name > after}
    if len(names) == enough:
        missing = (name for name in _beginnings(names[-1], after) if name not in found)
        found.update(name for name in missing if _is_there(driver, prefix, name))
    tags = [Tag(name) for name in sorted(found)]
    return tags[:limit], len(tags) > limit


def _names(driver: Driver, prefix: str, after: str) -> Iterator[str]:
    for child in driver.list(prefix, after=after):
        try:
            yield Tag(child.name).value
        except TagInvalid:
            continue


def _beginnings(name: str, after: str) -> Iterator[str]:
    """What `name` begins with, up to each dot and dash, and comes after `after`."""
    for index, character in enumerate(name):
        if character in "-." and (beginning := name[:index]) > after:
            yield beginning


def _is_there(driver: Driver, prefix: str, name: str) -> bool:
    try:
        driver.stat(f"{prefix}/{name}/current/link")
    except ObjectNotFound:
        return False
    return True
