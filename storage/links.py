"""Link files: a digest and nothing else, which is how one place in the tree names another.

Written without a newline, because Distribution takes one as damage; read with tolerance, because an
old crash may have left an empty or torn link. Such a link counts as absent and is reported: a push
writes it anew.
"""

from __future__ import annotations

import logging
from functools import lru_cache

from storage.driver import Driver, ObjectNotFound
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid

log = logging.getLogger("holdfast.storage")

LENGTH_LIMIT = 256


def parse(content: bytes, key: str) -> Digest | None:
    try:
        return _digest(content)
    except (UnicodeDecodeError, DigestInvalid):
        log.warning("damaged link %s counts as absent; a new push mends it", key)
        return None


def read(driver: Driver, key: str) -> Digest | None:
    """What the link names, or None if it is absent or damaged."""
    try:
        return parse(driver.read(key, length=LENGTH_LIMIT), key)
    except ObjectNotFound:
        return None


def write(driver: Driver, key: str, digest: Digest) -> None:
    """Write the link unless it is there and right: an unchanged link costs no write.

    Where storage is remote the two cost the same, so there it is written in any case.
    """
    if driver.remote or read(driver, key) != digest:
        driver.write(key, encode(digest))


def encode(digest: Digest) -> bytes:
    return str(digest).encode("ascii")


@lru_cache(maxsize=1024)
def _digest(content: bytes) -> Digest:
    return Digest.parse(content.decode("ascii").strip())
