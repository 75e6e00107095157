"""What a worker's application may know of the process it lives in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Lifecycle:
    """One per worker, handed to the application when it is made.

    `draining` turns true once, before anything else changes: from then on readiness must fail, while
    requests are still served as usual.
    """

    worker: int
    draining: bool = False
