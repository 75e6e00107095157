"""Why something is kept, or when it goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from registry_gc.adoption import look_only
from registry_gc.collect import LOCAL_THREADS
from registry_gc.ledger import Condemned
from registry_gc.options import Options
from registry_gc.references import ReferenceReader
from registry_gc.survey import Links, survey
from storage import layout, links
from storage.collection import entries
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag

SHOWN = 20


@dataclass(slots=True)
class Uses:
    """Of one digest in one repository."""

    repository: RepositoryName
    is_manifest: bool = False
    is_layer: bool = False
    chains: list[str] = field(default_factory=list)
    """From a tag, or from a manifest without one, down to the digest."""


@dataclass(frozen=True, slots=True)
class Explanation:
    digest: Digest
    size: int | None
    """Bytes; None if the content is not there."""
    uses: list[Uses]
    condemned: float | None
    """When its content was condemned, by the store's clock."""


def explain(driver: Driver, digest: Digest, options: Options) -> Explanation:
    """Looks at every repository, and writes nothing. Raises Undecodable and the driver's errors."""
    uses = []
    threads = options.threads if driver.remote else LOCAL_THREADS
    with ThreadPoolExecutor(threads, thread_name_prefix="gc") as pool:
        references = ReferenceReader(driver, pool, options.ignore)
        for found in survey(driver):
            each = _uses(driver, found, references, digest)
            if each.is_manifest or each.is_layer or each.chains:
                uses.append(each)
    try:
        size = driver.stat(layout.blob(digest)).size
    except ObjectNotFound:
        size = None
    shard = int(digest.hex[:2], 16)
    condemned = Condemned(driver, look_only(driver).lists).shard(shard).get(entries.blob(digest))
    return Explanation(digest, size, uses, condemned)


def _uses(driver: Driver, found: Links, references: ReferenceReader, digest: Digest) -> Uses:
    uses = Uses(found.name, digest in found.revisions, digest in found.layers)
    parents: defaultdict[Digest, set[Digest]] = defaultdict(set)
    for manifest, named in references.of(found.name, found.revisions).items():
        for child in named.digests if named is not None else ():
            parents[child].add(manifest)
    if digest not in parents and not uses.is_manifest:
        return uses
    tags: defaultdict[Digest, list[Tag]] = defaultdict(list)
    for tag in found.tags:
        target = links.read(driver, layout.tag_current(found.name, tag))
        if target is not None:
            tags[target].append(tag)
    start = [digest] if uses.is_manifest else sorted(parents[digest], key=str)
    for manifest in start:
        below = [] if manifest == digest else [str(digest)]
        for chain in _chains(manifest, parents, tags, found.name, below, frozenset()):
            uses.chains.append(chain)
            if len(uses.chains) >= SHOWN:
                return uses
    return uses


def _chains(
    manifest: Digest,
    parents: dict[Digest, set[Digest]],
    tags: dict[Digest, list[Tag]],
    name: RepositoryName,
    below: list[str],
    seen: frozenset[Digest],
) -> Iterator[str]:
    path = [f"{name}@{manifest}", *below]
    ended = False
    for tag in tags.get(manifest, ()):
        ended = True
        yield " -> ".join([f"{name}:{tag}", *path])
    for parent in sorted(parents.get(manifest, set()) - seen - {manifest}, key=str):
        ended = True
        yield from _chains(parent, parents, tags, name, path, seen | {manifest})
    if not ended:
        yield " -> ".join(path)


def sentences(found: Explanation, options: Options, now: float) -> list[str]:
    """For a person, a line each. `now` is by the store's clock, or near it."""
    size = "is not in the storage" if found.size is None else f"has {found.size} bytes"
    lines = [f"{found.digest} {size}."]
    for uses in found.uses:
        kind = "a manifest" if uses.is_manifest else "a blob"
        lines.append(
            f"In {uses.repository} it is {kind}{'' if uses.chains else ' that nothing names'}."
        )
        lines += [f"  kept by {chain}" for chain in uses.chains]
    if any(uses.chains for uses in found.uses):
        return lines
    if found.size is None:
        return lines
    if found.condemned is None:
        lines.append(
            "Nothing needs it. The next run condemns it, unless it is younger than gc.minimumage."
        )
        return lines
    left = found.condemned + options.undo - now
    when = "with the next run" if left <= 0 else f"with the first run in {left / 3600:.1f} hours"
    lines.append(
        f"Nothing needs it. It is condemned since {(now - found.condemned) / 3600:.1f} hours, and goes "
        f"{when}, which frees {found.size} bytes."
    )
    return lines
