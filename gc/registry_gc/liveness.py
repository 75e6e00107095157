"""Which manifests of one repository are wanted, where untagged ones are not kept for ever.

    roots       what a tag names, and what is young
    children    what a wanted manifest names, if it is a manifest here
    referrers   what has a wanted manifest as its subject: signatures, SBOMs

Whatever is not wanted still keeps its blobs as long as its link exists: they go a generation later, so
a manifest that is brought back in time is whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from registry_gc.references import References
from storage.model.digest import Digest


def wanted(roots: Iterable[Digest], manifests: Mapping[Digest, References | None]) -> set[Digest]:
    """Of `manifests`, all that belong to the repository."""
    referrers: defaultdict[Digest, list[Digest]] = defaultdict(list)
    for digest, references in manifests.items():
        if references is not None and references.subject is not None:
            referrers[references.subject].append(digest)
    found: set[Digest] = set()
    pending = [root for root in roots if root in manifests]
    while pending:
        digest = pending.pop()
        if digest in found:
            continue
        found.add(digest)
        references = manifests[digest]
        if references is not None:
            pending += [each for each in references.digests if each in manifests]
        pending += referrers.get(digest, ())
    return found
