"""How much room each tag of a repository takes that no other tag of it needs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from storage import layout
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid
from storage.model.reference import Tag

LARGEST = 64 * 1024 * 1024


def exclusive(needs: Mapping[Tag, Mapping[Digest, int]]) -> dict[Tag, int]:
    """Bytes, from what each tag needs with its size."""
    counts = Counter(digest for needed in needs.values() for digest in needed)
    return {
        tag: sum(size for digest, size in needed.items() if counts[digest] == 1)
        for tag, needed in needs.items()
    }


def needed(driver: Driver, digest: Digest) -> dict[Digest, int]:
    """Everything that a manifest names, itself and its children's with it, with their sizes."""
    found: dict[Digest, int] = {}
    pending = [digest]
    while pending:
        manifest = pending.pop()
        try:
            content = driver.read(layout.blob(manifest), length=LARGEST)
            document = json.loads(content)
        except (ObjectNotFound, ValueError, RecursionError):
            continue  # it has no size that anybody could tell
        found[manifest] = len(content)
        if not isinstance(document, dict):
            continue
        children = document.get("manifests")
        for each in _descriptors(document):
            try:
                named = Digest.parse(each["digest"])
            except DigestInvalid:
                continue  # by an algorithm that has no content here
            if named not in found:
                found[named] = each["size"]
                if isinstance(children, list) and each in children:
                    pending.append(named)
    return found


def _descriptors(document: dict[str, Any]) -> Iterable[dict[str, Any]]:
    lists = (document.get(key) for key in ("layers", "manifests"))
    candidates = [
        document.get("config"),
        *(e for each in lists if isinstance(each, list) for e in each),
    ]
    for each in candidates:
        if (
            isinstance(each, dict)
            and isinstance(each.get("digest"), str)
            and isinstance(each.get("size"), int)
        ):
            yield each
