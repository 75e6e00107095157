"""Holdfast with one of its fast ways closed: `python -m tests.bench.slowed serve CONFIG`.

Which one is a name in the environment, HOLDFAST_TEST_SLOWED. Answers stay right, only dearer; so what
counts the cost must notice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from registry import cli, responses, streaming
from registry.server import exchange, sending
from storage.cache import Cache
from storage.manifests import Manifests, StoredManifest
from storage.model.digest import Digest
from storage.repository import Store
from storage.upload_session import Session

SLOWED = "HOLDFAST_TEST_SLOWED"


def _no_memory() -> None:
    """Every look-up takes a thread."""
    Store.immediately = lambda self, name: None  # type: ignore[method-assign]


def _no_cache() -> None:
    """Every manifest is read again."""
    load = Manifests._load

    def forgetful(self: Manifests, digest: Digest) -> StoredManifest:
        self._cache = Cache(0)
        return load(self, digest)

    Manifests._load = forgetful  # type: ignore[method-assign]


def _no_zero_copy() -> None:
    """Blobs are read and written."""

    def choose(self: responses.ContentResponse, scope: object) -> None:
        self._begun = True

    responses.ContentResponse._choose = choose  # type: ignore[method-assign]


def _no_residency() -> None:
    """Every window of a file is sent by a thread."""
    vars(sending)["resident"] = lambda *_: False


def _no_joined_head() -> None:
    """A small file does not go out together with its head."""
    vars(exchange)["read_small"] = lambda *_: None


def _small_batches() -> None:
    """A thread hop for every 64 KiB of an upload."""
    vars(streaming)["BATCH"] = streaming.SMALLEST_BATCH


def _synced_batches() -> None:
    """An fsync for every batch of an upload."""
    append = Session.append

    def synced(self: Session, chunks: Any) -> None:
        append(self, chunks)
        self._writer.sync()

    Session.append = synced  # type: ignore[method-assign]


WAYS: Mapping[str, Callable[[], None]] = {
    "no memory": _no_memory,
    "no cache": _no_cache,
    "no zero copy": _no_zero_copy,
    "no residency": _no_residency,
    "no joined head": _no_joined_head,
    "small batches": _small_batches,
    "synced batches": _synced_batches,
}


def main() -> None:
    if way := os.environ.get(SLOWED):
        WAYS[way]()
    cli.main()


if __name__ == "__main__":
    main()
