"""The sets of public keys that tokens are verified with: a JWKS (RFC 7517) in a file or behind a URL.

A set that cannot be read, or is broken, never replaces one that was read before. A key that has been
taken out of a set is not trusted any more a minute later at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from auth import fetching
from auth.jose import Malformed, strict_object
from auth.jwk import BadKey, KeySource, KeysUnavailable, VerificationKey, from_jwk
from auth.watched import INTERVAL, WatchedFile

log = logging.getLogger("holdfast.auth")

REFRESH: Final = 30.0
"""Seconds after which a remote set is asked for again, and between two fetches for unknown keys."""

OLD: Final = 2 * REFRESH
"""Seconds without an attempt after which a remote set is not used before it has been asked for again."""

_RETRY: Final = 3.0  # seconds between two attempts while there is no set at all
_MOST_KEYS: Final = 1000


def parse_jwks(data: bytes, what: str) -> Mapping[str, VerificationKey]:
    """The keys by kid. `what` names the set in the log.

    Keys that cannot be used are left out and logged. Raises ValueError, a clause to be put after the
    name of the set, if it is no JWKS, or has keys of which none can be used.
    """
    listed = strict_object(data).get("keys")
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise Malformed("is not a JWKS: it needs a list `keys`")
    found: dict[str, VerificationKey] = {}
    for position, members in enumerate(listed):
        try:
            if not isinstance(members, dict):
                raise BadKey("is not a JSON object")
            key = from_jwk(members)
            if key is None:
                continue
            if not key.kid or key.kid in found:
                raise BadKey("needs a kid of its own")
        except BadKey as error:
            log.warning("Key %d of %s is left out: it %s.", position + 1, what, error)
        else:
            found[key.kid] = key
    if listed and not found:
        raise Malformed("has no key that can be used to verify a token")
    return found


class FileKeys:
    """A JWKS file, read again when it changes."""

    certifies = False

    def __init__(
        self, path: str, *, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises watched.Unusable if the file cannot be used."""
        self._interval = interval
        self._clock = clock
        self._looked = clock()
        self._file = WatchedFile(
            path,
            lambda data: parse_jwks(data, path),
            what="The key set",
            interval=interval,
            clock=clock,
        )

    @property
    def problem(self) -> str | None:
        return self._file.problem

    def find(self, kid: str) -> VerificationKey | None:
        self._looked = self._clock()
        self._file.refresh()
        return self._file.content.get(kid)

    def at_hand(self, kid: str) -> VerificationKey | None:
        if self._clock() - self._looked >= self._interval:
            return None
        return self._file.content.get(kid)

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        return None


class RemoteKeys:
    """A JWKS behind a URL.

    It is fetched in a thread of its own, one fetch at a time. Who asks for a known key waits only if
    the set is old; who asks for an unknown one waits for one fetch, of which there is one in
    REFRESH seconds over all requests. While the server is down the last good set stays in force.
    """

    certifies = False

    def __init__(
        self,
        url: str,
        *,
        fetch: Callable[[str], bytes] = fetching.fetch,
        timeout: float = fetching.TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` raises FetchFailed; it may find the set in a roundabout way. `timeout` bounds waiting.

        Raises ValueError with a sentence if `url` may not be asked.
        """
        self.url = fetching.check_url(url)
        self.problem: str | None = None
        """Why the last attempt failed, or None."""
        self._fetch = fetch
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, VerificationKey] | None = None
        self._attempted = float("-inf")
        self._attempted_for_unknown = float("-inf")
        self._running: threading.Event | None = None

    def find(self, kid: str) -> VerificationKey | None:
        with self._lock:
            wait = self._needed(kid)
        if wait is not None:
            wait.wait(self._timeout)
        keys = self._keys
        if keys is None:
            raise KeysUnavailable(
                "The keys of the token's issuer cannot be fetched now; try again in a moment."
            )
        return keys.get(kid)

    def at_hand(self, kid: str) -> VerificationKey | None:
        keys = self._keys
        if keys is None or kid not in keys:
            return None
        age = self._clock() - self._attempted
        if age >= OLD:
            return None
        if age >= REFRESH:
            with self._lock:
                self._needed(kid)
        return keys[kid]

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        return None

    def _needed(self, kid: str) -> threading.Event | None:
        """The fetch to wait for, begun if it is time. The lock is held."""
        now = self._clock()
        age = now - self._attempted
        if self._keys is None:
            return self._running or (self._begin(now) if age >= _RETRY else None)
        if kid not in self._keys:
            if self._running is None and now - self._attempted_for_unknown >= REFRESH:
                self._attempted_for_unknown = now
                self._begin(now)
            return self._running
        if age < REFRESH:
            return None
        running = self._running or self._begin(now)
        return running if age >= OLD else None

    def _begin(self, now: float) -> threading.Event:
        self._attempted = now
        self._running = done = threading.Event()
        threading.Thread(target=self._update, args=(done,), name="jwks", daemon=True).start()
        return done

    def _update(self, done: threading.Event) -> None:
        try:
            keys = parse_jwks(self._fetch(self.url), self.url)
        except (fetching.FetchFailed, ValueError) as error:
            self._failed(str(error))
        except Exception:  # a fetch that ends in no way at all would never be tried again
            log.exception("Fetching the key set %s failed in an unexpected way.", self.url)
            self._failed("cannot be fetched")
        else:
            self._keys = keys
            self.problem = None
        with self._lock:
            self._running = None
        done.set()

    def _failed(self, reason: str) -> None:
        what_now = "What was fetched before stays in force." if self._keys is not None else ""
        problem = f"The key set {self.url} {reason}. {what_now}".rstrip()
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem


class CombinedKeys:
    """Several sources as one; the first that knows a key decides."""

    def __init__(self, sources: Sequence[KeySource]) -> None:
        self._sources = tuple(sources)

    @property
    def problem(self) -> str | None:
        return " ".join(filter(None, (source.problem for source in self._sources))) or None

    @property
    def certifies(self) -> bool:
        return any(source.certifies for source in self._sources)

    def find(self, kid: str) -> VerificationKey | None:
        return self._first(lambda source: source.find(kid))

    def at_hand(self, kid: str) -> VerificationKey | None:
        return next(filter(None, (source.at_hand(kid) for source in self._sources)), None)

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        return self._first(lambda source: source.leaf(chain) if source.certifies else None)

    def _first(self, ask: Callable[[KeySource], VerificationKey | None]) -> VerificationKey | None:
        unavailable: KeysUnavailable | None = None
        for source in self._sources:
            try:
                key = ask(source)
            except KeysUnavailable as error:
                unavailable = error
            else:
                if key is not None:
                    return key
        if unavailable is not None:
            raise unavailable
        return None
