"""What can be wrong with a tree, as sentences, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """`repairable` from what is there; the rest takes a push, or a backup."""

    DAMAGED_LINK = ("damaged-link", True)
    MANIFEST_MISSING = ("manifest-missing", False)
    MANIFEST_DAMAGED = ("manifest-damaged", True)
    BLOB_MISSING = ("blob-missing", False)
    BLOB_DAMAGED = ("blob-damaged", True)
    LINK_MISSING = ("layer-link-missing", True)
    CHILD_MISSING = ("child-missing", False)
    CHILD_UNLINKED = ("child-unlinked", True)
    DANGLING_LINK = ("dangling-layer-link", True)
    GHOST_TAG = ("ghost-tag", True)
    STRANGE_NAME = ("strange-name", False)

    def __init__(self, text: str, repairable: bool) -> None:
        self.text = text
        self.repairable = repairable


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    key: str
    sentence: str
    repaired: bool = False


@dataclass(slots=True)
class Summary:
    repositories: int = 0
    manifests: int = 0
    tags: int = 0
    cut_short: int = 0
    """Tags whose push or deletion ended in the middle: their history is there, and no tag."""
    blobs: int = 0
    scrubbed: int = 0
    scrubbed_bytes: int = 0
    found: int = 0
    repaired: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return self.found - self.repaired

    def count(self, finding: Finding) -> None:
        self.found += 1
        self.repaired += finding.repaired
        self.by_kind[finding.kind.text] = self.by_kind.get(finding.kind.text, 0) + 1
