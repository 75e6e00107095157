"""What a manifest keeps alive, whatever its type: every digest that it names, its subject left out.

Types that this registry has never heard of are walked like all others, because what they name was
stored for them: to keep too much costs room, to keep too little costs an image. On remote storage what
was found is kept there for the next run, since it never changes: a manifest is fetched once ever.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from registry_gc.outcome import Undecodable
from storage import layout
from storage.driver import Driver
from storage.driver_errors import DriverError, ObjectNotFound
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid
from storage.model.reference import RepositoryName

log = logging.getLogger("holdfast.collection")

LARGEST = 64 * 1024 * 1024
"""Bytes; nothing that was taken for a manifest is larger."""
REMEMBERED = 10_000
"""Digests: base layers are named again and again."""
BETWEEN_BEATS = 1000
"""Manifests."""
WORTH_KEEPING = 2
"""Manifests; what is kept of one takes as long to fetch as that one."""


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


def _named(document: dict[str, Any]) -> set[Digest]:
    """Without recursion: a document may be nested as deeply as its parser allows."""
    found = set()
    pending: list[dict[str, Any] | list[Any]] = [document]
    for inside in pending:  # which grows meanwhile
        if isinstance(inside, dict):
            for key in ("digest", "blobSum"):  # the latter in Docker's schema 1
                value = inside.get(key)
                if isinstance(value, str) and (digest := _parsed(value)) is not None:
                    found.add(digest)
            pending += [each for each in inside.values() if isinstance(each, (dict, list))]
        else:
            pending += [each for each in inside if isinstance(each, (dict, list))]
    return found


def _digest(value: object) -> Digest | None:
    return _parsed(value) if isinstance(value, str) else None


@lru_cache(maxsize=REMEMBERED)
def _parsed(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None


class ReferenceReader:
    """What the manifests of a storage refer to."""

    def __init__(
        self,
        driver: Driver,
        pool: Executor,
        ignore: frozenset[Digest],
        *,
        save: bool = False,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """`save` what was read, where storage is remote: each manifest is fetched once ever.

        `beat` is called now and then between manifests, and may raise to stop.
        """
        self._driver = driver
        self._pool = pool
        self._ignore = ignore
        self._save = save
        self._beat = beat
        self.fetched = 0

    def of(
        self, name: RepositoryName, manifests: Collection[Digest]
    ) -> Mapping[Digest, References | None]:
        """Of each manifest of a repository; None for one whose bytes are not there.

        Raises Undecodable for one that cannot be understood, and the driver's errors.
        """
        if not self._driver.remote:
            return {digest: self._read(digest) for digest in manifests}
        if len(manifests) < WORTH_KEEPING:
            return dict(zip(manifests, self._pool.map(self._read, manifests), strict=True))
        kept = _Kept(self._driver, name)
        found: dict[Digest, References | None] = {}
        missing = []
        for digest in manifests:
            known = kept.get(digest)
            if known is None:
                missing.append(digest)
            else:
                found[digest] = known
        try:
            for start in range(0, len(missing), BETWEEN_BEATS):
                few = missing[start : start + BETWEEN_BEATS]
                found.update(zip(few, self._pool.map(self._read, few), strict=True))
                self._beat()
        except BaseException:  # what was learnt need not be learnt again, however this ends
            try:
                self._keep(kept, found, missing)
            except DriverError as error:
                log.warning("what was learnt of the manifests of %s is not kept: %s", name, error)
            raise
        self._keep(kept, found, missing)
        return found

    def _keep(
        self,
        kept: _Kept,
        found: Mapping[Digest, References | None],
        missing: Collection[Digest],
    ) -> None:
        if self._save and any(found.get(digest) is not None for digest in missing):
            kept.replace({d: each for d, each in found.items() if d not in self._ignore})

    def forget_others(self, names: Iterable[str]) -> None:
        """What is kept for repositories of other names; they are gone."""
        if self._driver.remote and self._save:
            wanted = {layout.references(RepositoryName(name)) for name in names}
            keys = (info.key for info in self._driver.walk(layout.REFERENCES))
            self._driver.delete_many([key for key in keys if key not in wanted])

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


class _Kept:
    """An object for each repository, a line in it for each manifest: memory is that of one repository."""

    def __init__(self, driver: Driver, name: RepositoryName) -> None:
        self._driver = driver
        self.key = layout.references(name)
        try:
            content = driver.read(self.key).decode()
        except ObjectNotFound:
            content = ""
        lines = (line.partition("=") for line in content.splitlines())
        self._lines = {digest: rest for digest, _, rest in lines}

    def get(self, digest: Digest) -> References | None:
        line = self._lines.get(str(digest))
        if line is None:
            return None
        subject, *digests = line.split(" ")
        return References(
            frozenset(map(Digest.parse, digests)), Digest.parse(subject) if subject else None
        )

    def replace(self, found: Mapping[Digest, References | None]) -> None:
        lines = [f"{digest}={_line(each)}" for digest, each in found.items() if each is not None]
        self._driver.write(self.key, "\n".join(lines).encode())


def _line(references: References) -> str:
    subject = "" if references.subject is None else str(references.subject)
    return " ".join([subject, *sorted(map(str, references.digests))])
