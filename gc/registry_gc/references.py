"""What a manifest keeps alive, whatever its type: every digest that it names, its subject left out.

Types that this registry has never heard of are walked like all others, because what they name was
stored for them: to keep too much costs room, to keep too little costs an image. On remote storage what
was found is kept there for the next run, since it never changes: a manifest is fetched once ever.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from registry_gc.outcome import Undecodable
from storage import layout
from storage.driver import Driver, ObjectNotFound
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid

log = logging.getLogger("holdfast.collection")

LARGEST = 64 * 1024 * 1024
"""Bytes; nothing that was taken for a manifest is larger."""


@dataclass(frozen=True, slots=True)
class References:
    digests: frozenset[Digest] = frozenset()
    subject: Digest | None = None


def parse(content: bytes) -> References:
    """Raises ValueError if it is no JSON object."""
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    subject = document.pop("subject", None)
    return References(
        frozenset(_named(document)),
        _digest(subject.get("digest")) if isinstance(subject, dict) else None,
    )


def _named(value: Any) -> Iterator[Digest]:
    """Without recursion: a document may be nested as deeply as its parser allows."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for key in ("digest", "blobSum"):  # the latter in Docker's schema 1
                if (digest := _digest(value.get(key))) is not None:
                    yield digest
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _digest(value: object) -> Digest | None:
    try:
        return Digest.parse(value) if isinstance(value, str) else None
    except DigestInvalid:
        return None


class ReferenceReader:
    """What the manifests of a storage refer to."""

    def __init__(self, driver: Driver, pool: Executor, ignore: frozenset[Digest]) -> None:
        self._driver = driver
        self._pool = pool
        self._ignore = ignore
        self._remembered = _Remembered(driver) if driver.remote else None
        self.fetched = 0

    def of(self, manifests: Iterable[Digest]) -> Mapping[Digest, References | None]:
        """Of each; None for a manifest whose bytes are not there.

        Raises Undecodable for one that cannot be understood, and the driver's errors.
        """
        wanted = [*manifests]
        if self._remembered is None:
            return {digest: self._read(digest) for digest in wanted}
        found: dict[Digest, References | None] = {}
        missing = []
        for digest in wanted:
            known = self._remembered.get(digest)
            if known is None:
                missing.append(digest)
            else:
                found[digest] = known
        for digest, read in zip(missing, self._pool.map(self._read, missing), strict=True):
            found[digest] = read
            if read is not None:
                self._remembered.put(digest, read)
        return found

    def save(self) -> None:
        """Keep for the next run what this one has read."""
        if self._remembered is not None:
            self._remembered.save()

    def _read(self, digest: Digest) -> References | None:
        try:
            content = self._driver.read(layout.blob(digest), length=LARGEST)
        except ObjectNotFound:
            return None
        self.fetched += 1
        try:
            return parse(content)
        except (ValueError, RecursionError):
            if digest in self._ignore:
                return References()
        raise Undecodable(
            f"The manifest {digest} cannot be read as JSON, so nobody knows what it needs. Nothing was "
            f"removed. Run `registry fsck` to see where it is; if it is not needed, delete it, or "
            f"give --ignore {digest}."
        )


class _Remembered:
    """One object for each first byte of a digest, each line a manifest."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._shards: dict[str, dict[str, str]] = {}
        self._changed: set[str] = set()

    def get(self, digest: Digest) -> References | None:
        line = self._shard(digest.hex[:2]).get(str(digest))
        if line is None:
            return None
        subject, *digests = line.split(" ")
        return References(
            frozenset(map(Digest.parse, digests)), Digest.parse(subject) if subject else None
        )

    def put(self, digest: Digest, references: References) -> None:
        named = sorted(map(str, references.digests))
        subject = "" if references.subject is None else str(references.subject)
        self._shard(digest.hex[:2])[str(digest)] = " ".join([subject, *named])
        self._changed.add(digest.hex[:2])

    def save(self) -> None:
        for name in sorted(self._changed):
            lines = (f"{digest}={line}" for digest, line in sorted(self._shards[name].items()))
            self._driver.write(f"{layout.REFERENCES}/{name}", "\n".join(lines).encode())
        self._changed.clear()

    def _shard(self, name: str) -> dict[str, str]:
        known = self._shards.get(name)
        if known is None:
            try:
                content = self._driver.read(f"{layout.REFERENCES}/{name}").decode()
            except ObjectNotFound:
                content = ""
            lines = (line.partition("=") for line in content.splitlines())
            known = self._shards[name] = {digest: rest for digest, _, rest in lines}
        return known
