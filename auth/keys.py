"""The keys of the built-in token server: a directory of private keys (keyfiles) that every node reads.

All keys verify. The newest signs once it is older than the grace, which is longer than any node takes
to see it; the first key signs at once.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from auth import keyfiles
from auth.jwk import BadKey, KeysUnavailable, VerificationKey, to_jwk
from auth.signing import Algorithm, SigningKey, from_pem, pem_certificate

log = logging.getLogger("holdfast.auth")

REREAD: Final = 30.0
GRACE: Final = 2 * REREAD

_LIMIT: Final = 64 * 1024
_SOON: Final = 1.0  # seconds between two looks for a kid that is not known


@dataclass(frozen=True, slots=True)
class _Kept:
    name: str
    created: float
    signature: tuple[int, ...]
    key: SigningKey


class KeyRing:
    """Used by any number of threads, processes and nodes."""

    certifies = False

    def __init__(
        self,
        directory: str,
        *,
        algorithm: Algorithm = "ES256",
        grace: float = GRACE,
        reread: float = REREAD,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Touches nothing yet. `algorithm` is of new keys; `ticks` paces looking at the directory."""
        self.directory = directory
        self.complaints: tuple[str, ...] = ()
        """What is wrong with the files, a sentence each; also in the log when it is first seen."""
        self._algorithm = algorithm
        self._grace = grace
        self._reread = reread
        self._clock = clock
        self._ticks = ticks
        self._lock = threading.RLock()
        self._looked = float("-inf")
        self._kept: tuple[_Kept, ...] = ()
        self._by_kid: dict[str, VerificationKey] = {}

    @property
    def problem(self) -> str | None:
        return " ".join(self.complaints) or None

    def signing(self) -> SigningKey:
        """The key to sign with now; makes the first one.

        Reads the directory twice a minute at most. Raises KeysUnavailable if there is no key and none
        can be made.
        """
        kept = self._current(create=True)
        ripe = [one for one in kept if one.created + self._grace <= self._clock()]
        return (ripe[-1] if ripe else kept[0]).key

    def look(self) -> None:
        """Read the directory if it is time to; makes nothing. Blocks; never raises."""
        self._current(create=False)

    def find(self, kid: str) -> VerificationKey | None:
        """Looks at the directory again for a kid that is not known, once in a second at most."""
        self._current(create=False)
        if kid not in self._by_kid and self._ticks() - self._looked >= _SOON:
            with self._lock:
                if self._ticks() - self._looked >= _SOON:
                    self._read()
        return self._by_kid.get(kid)

    def at_hand(self, kid: str) -> VerificationKey | None:
        return None if self._due() else self._by_kid.get(kid)

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        return None

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """All keys as a JWKS, the newest first. Waits and raises as signing() does."""
        kept = self._current(create=True)
        return {"keys": [to_jwk(one.key.verification) for one in reversed(kept)]}

    def certificates(self) -> bytes:
        """The keys' certificates in PEM, for the `rootcertbundle` of a Distribution registry."""
        return b"".join(
            pem_certificate(one.key.certificate)
            for one in self._current(create=True)
            if one.key.certificate is not None
        )

    def rotate(self) -> str:
        """Make a key and return its kid; every node signs with it once it is older than the grace.

        Raises KeysUnavailable if it cannot be written.
        """
        with self._lock:
            self._read()
            if not self._kept:
                return self.signing().kid
            # Names count in whole seconds, and clocks differ: the newest stays the newest.
            created = max(self._clock(), self._kept[-1].created + 1)
            try:
                kid = keyfiles.write(self.directory, self._algorithm, created)
            except OSError as error:
                raise self._unavailable(error) from error
            self._read()
            return kid

    def prune(self, after: float) -> list[str]:
        """Delete the keys that another one replaced `after` seconds ago or more; return their kids.

        `after` must be longer than any token lives that they signed. The signing key always stays.
        Raises KeysUnavailable if one cannot be deleted.
        """
        with self._lock:
            self._read()
            kept = self._kept
            ends = self._clock() - after - self._grace
            done = [old for old, newer in pairwise(kept) if newer.created <= ends]
            try:
                for one in done:
                    os.unlink(os.path.join(self.directory, one.name))
                if done:
                    keyfiles.sync(self.directory)
            except OSError as error:
                raise self._unavailable(error) from error
            finally:
                self._read()
            return [one.key.kid for one in done]

    def _due(self) -> bool:
        return self._ticks() - self._looked >= self._reread

    def _current(self, *, create: bool) -> tuple[_Kept, ...]:
        kept = self._kept
        if kept and not self._due():
            return kept
        if not self._lock.acquire(blocking=not kept):
            return kept  # somebody is looking already, and the disk may be slow
        try:
            if not self._kept or self._due():
                self._read()
            if not self._kept and create:
                try:
                    keyfiles.create_first(self.directory, self._algorithm, self._clock)
                except OSError as error:
                    raise self._unavailable(error) from error
                self._read()
            if not self._kept and create:
                raise KeysUnavailable(f"No key in {self.directory} can be used to sign tokens.")
            return self._kept
        finally:
            self._lock.release()

    def _read(self) -> None:
        self._looked = self._ticks()
        before = {one.name: one for one in self._kept}
        complaints: list[str] = []
        found: list[_Kept] = []
        try:
            names = keyfiles.names(self.directory)
            if os.stat(self.directory).st_mode & 0o022:
                complaints.append(f"{self.directory} can be written by others; use mode 0700.")
            complaints += keyfiles.exposed(os.path.join(self.directory, keyfiles.SEAL))
        except FileNotFoundError:
            names = []
        except OSError as error:
            complaints.append(f"{self.directory} cannot be read: {error.strerror or error}.")
            names, found = [], list(self._kept)
        for name in names:
            kept: _Kept | None
            try:
                kept = self._load(name, before.get(name), complaints)
            except FileNotFoundError:
                continue  # deleted since it was listed
            except OSError as error:
                complaints.append(f"{name} cannot be read: {error.strerror or error}.")
                kept = before.get(name)
            except BadKey as error:
                complaints.append(f"{name} is left out: it {error}.")
                continue
            if kept is not None:
                found.append(kept)
        for complaint in complaints:
            if complaint not in self.complaints:
                log.error("Signing keys: %s", complaint)
        self.complaints = tuple(complaints)
        found.sort(key=lambda one: (one.created, one.name))
        self._by_kid = {one.key.kid: one.key.verification for one in found}
        self._kept = tuple(found)

    def _load(self, name: str, known: _Kept | None, complaints: list[str]) -> _Kept:
        path = os.path.join(self.directory, name)
        complaints += keyfiles.exposed(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise BadKey("is not a file")
            signature = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)
            if known is not None and known.signature == signature:
                return known
            data = file.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise BadKey("is too large for a key")
        return _Kept(name, keyfiles.created(name, info.st_mtime), signature, from_pem(data))

    def _unavailable(self, error: OSError) -> KeysUnavailable:
        return KeysUnavailable(
            f"The signing keys in {self.directory} cannot be written: {error.strerror or error}."
        )
