"""What a worker's application may know of the process it lives in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unserved:
    """A request that the server refused by itself, so that the application never saw it.

    What is known of it is what had come: `method` and `target` may be empty, and the target cut short
    or anything at all.
    """

    status: int
    code: str
    client: str
    """Address of the peer; empty on a unix socket."""
    method: str
    target: bytes
    sent: int
    """Bytes of the answer's body."""


@dataclass(slots=True)
class Lifecycle:
    """One per worker, handed to the application when it is made.

    `draining` turns true once, before anything else changes: from then on readiness must fail, while
    requests are still served as usual. `tls_problem` is a sentence while a renewed certificate cannot be
    used and the former stays in force: it names paths, so it is for the operator only. `tls_expiry` is when
    the certificate in force ends, in seconds since the epoch; 0 without TLS.
    """

    worker: int
    draining: bool = False
    tls_problem: str | None = None
    tls_expiry: float = 0.0
    on_unserved: Callable[[Unserved], None] | None = None
    """Set by the application that wants to hear of them; called in the event loop, must not raise."""
