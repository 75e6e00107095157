"""What a collector can remove, as one line of text each.

    B:<digest>                the content of a blob, with the layer links that name it
    M:<repository>:<digest>   the revision link of a manifest

The rules for both are the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from storage import layout
from storage.model.digest import Digest
from storage.model.reference import RepositoryName

Entry = str
BLOB = "B:"


def blob(digest: Digest) -> Entry:
    return f"{BLOB}{digest}"


def manifest(repository: RepositoryName, digest: Digest) -> Entry:
    return f"M:{repository}:{digest}"


def name_of(entry: Entry) -> str:
    """As a component of keys."""
    return hashlib.sha256(entry.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Parsed:
    digest: Digest
    repository: RepositoryName | None
    """None: a blob."""

    @property
    def key(self) -> str:
        if self.repository is None:
            return layout.blob(self.digest)
        return layout.revision(self.repository, self.digest)

    @property
    def shard(self) -> int:
        return int(self.digest.hex[:2], 16)


def parse(entry: Entry) -> Parsed:
    """Raises ValueError, NameInvalid or DigestInvalid for what is no entry."""
    kind, _, rest = entry.partition(":")
    if kind == "B":
        return Parsed(Digest.parse(rest), None)
    if kind != "M":
        raise ValueError(f"not an entry: {entry[:300]!r}")
    name, _, digest = rest.partition(":")
    return Parsed(Digest.parse(digest), RepositoryName(name))
