"""The names directly below a prefix, in the order of the contract, as a store lists them.

A store sorts keys by their bytes: the object `a`, then `a-b/`, then `a/`. The contract sorts names with a
slash behind them: `a-b`, then `a`. So an object is held back until the store is past its name and slash;
and a page that begins after `a-b` must look for the object `a`, which the store has passed already.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator

from storage.driver import Child, ObjectInfo, check_key
from storage.driver_errors import InvalidKey, ObjectNotFound
from storage.drivers.s3.bucket import Bucket

_BEFORE_SLASH = "-."
"""What a key may contain that sorts before a slash."""


def children(bucket: Bucket, prefix: str, after: str, doomed: Container[str]) -> Iterator[Child]:
    """`prefix` is "" or ends with a slash. One request for each thousand names that are consumed."""
    held: list[tuple[str, bool, bool]] = []  # name and slash, whether a prefix, whether it is there
    start = ""
    if after and after.isascii() and after.isprintable():  # need not be a name itself
        start = f"{prefix}{after}/~"  # beyond every key below it
        for end, letter in enumerate(after):
            if letter in _BEFORE_SLASH and _is_name(after[:end]):
                heapq.heappush(held, (f"{after[:end]}/", False, False))
    for page in bucket.pages(prefix, after=start, delimiter="/"):
        names = [
            *(info.key[len(prefix) :] for info in page.objects if info.key not in doomed),
            *(name[len(prefix) :] for name in page.prefixes),
        ]
        for name in sorted(names):
            yield from _up_to(bucket, prefix, held, name)
            bare = name.removesuffix("/")
            if _is_name(bare) and (not after or f"{bare}/" > f"{after}/"):
                heapq.heappush(held, (f"{bare}/", name.endswith("/"), True))
    yield from _up_to(bucket, prefix, held, None)


def _up_to(
    bucket: Bucket, prefix: str, held: list[tuple[str, bool, bool]], name: str | None
) -> Iterator[Child]:
    while held and (name is None or held[0][0] < name):
        sort_key, is_prefix, is_there = heapq.heappop(held)
        while held and held[0][0] == sort_key:
            _, also_prefix, also_there = heapq.heappop(held)
            is_prefix, is_there = is_prefix or also_prefix, is_there or also_there
        bare = sort_key[:-1]
        if is_there or _is_object(bucket, prefix + bare):
            yield Child(bare, is_prefix)


def _is_object(bucket: Bucket, key: str) -> bool:
    try:
        bucket.head(key)
    except ObjectNotFound:
        return False
    return True


def walk(
    bucket: Bucket, prefix: str, doomed: Container[str], after: str = ""
) -> Iterator[ObjectInfo]:
    """Every object whose key begins with `prefix`; keys that are none of ours are left out."""
    for page in bucket.pages(prefix, after=after):
        for info in page.objects:
            # A store that does not know where to begin begins at the beginning.
            if info.key > after and info.key not in doomed and _is_key(info.key):
                yield info


def _is_name(name: str) -> bool:
    return "/" not in name and _is_key(name)


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKey:
        return False
    return True
