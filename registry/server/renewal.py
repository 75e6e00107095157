"""Certificates that are replaced while the server runs, without a connection lost.

The event loop is given one context when it begins to listen, and asks it for the state of every new
connection. Ours passes that on to the context that is in force, so a handshake uses all of the old
files or all of the new ones, and connections that exist keep theirs. Files that cannot be used change
nothing but `problem`.

Certificates are renewed in many ways: files are renamed over, written in place, or links above them are
switched (as Kubernetes does). All of these change what stat() tells of a file. Files that changed
between two looks may still be being written, and are read only once they are found the same twice.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable
from typing import Final

from .expiry import expires
from .handshake import Handshake
from .settings import TLSSettings
from .tls import CannotSecure, context

logger = logging.getLogger("holdfast.server")

INTERVAL: Final = 3.0
"""Seconds between two looks at the files."""

Signature = tuple[tuple[int, ...] | None, ...]


class RenewableContext(ssl.SSLContext):
    """The context that is given to the event loop. Its own certificate is never used: it has none."""

    _settings: TLSSettings
    _current: ssl.SSLContext
    _loaded: Signature
    problem: str | None
    """Why the certificate in force is not that of the files, in a sentence; None if it is."""
    expiry: float
    """When the certificate in force ends, see `expires`."""

    def __new__(cls, settings: TLSSettings) -> RenewableContext:
        """Reads the files. Blocks. Raises CannotSecure."""
        self: RenewableContext = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._settings = settings
        self._loaded = signature(settings)
        self._current = context(settings)
        self.expiry = expires(settings.certificate)
        self.problem = None
        return self

    @property
    def current(self) -> ssl.SSLContext:
        return self._current

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        made = self._current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(made, Handshake):
            made.outgoing = outgoing
        return made

    def stale(self, seen: Signature | None = None) -> bool:
        """Whether the files, which look like `seen`, are others than those read last, or unusable."""
        return self.problem is not None or (seen or signature(self._settings)) != self._loaded

    def renew(self) -> bool:
        """Read the files again; whether the new ones are in force now. Blocks; never raises."""
        seen = signature(self._settings)
        try:
            fresh = context(self._settings)
        except CannotSecure as error:
            self._loaded = seen
            self.problem = f"{error} The certificate that was loaded before stays in use."
            return False
        self._loaded = seen
        self._current = fresh
        self.expiry = expires(self._settings.certificate)
        self.problem = None
        return True


def signature(settings: TLSSettings) -> Signature:
    """What changes when a file is replaced, wherever a link on the way to it leads."""
    return tuple(
        _signature(path) for path in (settings.certificate, settings.key, *settings.clientcas)
    )


def _signature(path: str) -> tuple[int, ...] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


class Renewal:
    """Watches the files of one worker's context, in a thread, for a file system may hang.

    `changed` is called from that thread, after every attempt, with `problem` of the context.
    """

    def __init__(
        self,
        tls: RenewableContext,
        settings: TLSSettings,
        changed: Callable[[str | None], None],
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._tls = tls
        self._settings = settings
        self._changed = changed
        self._interval = interval
        self._wake = threading.Event()
        self._asked = self._ended = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="certificates", daemon=True).start()

    def now(self) -> None:
        """Read the files again, whether they look changed or not. Returns at once."""
        self._asked = True
        self._wake.set()

    def stop(self) -> None:
        """Idempotent. Does not wait for the thread: it may hang, and holds nothing."""
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        before = signature(self._settings)
        while True:
            self._wake.wait(self._interval)
            self._wake.clear()
            if self._ended:
                return
            asked, self._asked = self._asked, False
            seen = signature(self._settings)
            if asked or (seen == before and self._tls.stale(seen)):
                self._renew()
            before = seen

    def _renew(self) -> None:
        former = self._tls.problem
        try:
            renewed = self._tls.renew()
        except Exception:  # whatever it is, the watch must go on, or the certificate would run out
            logger.exception("reading the TLS certificate again failed")
            return
        if renewed:
            logger.info("The TLS certificate %s was read again.", self._settings.certificate)
        elif self._tls.problem != former:
            logger.error("%s", self._tls.problem)
        self._changed(self._tls.problem)
