"""Link files: a digest and nothing else, which is how one place in the tree names another.

Written without a newline, because Distribution takes one as damage; read with tolerance, because an
old crash may have left an empty or torn link. Such a link counts as absent and is reported: a push
writes it anew.

Distribution's filesystem driver writes a link in place, also one that is there already and right: it
cuts the file to nothing, then writes. A link that was emptied only now is therefore read again before
it counts as damaged; otherwise, beside a Distribution on the same tree, a layer or a tag would be gone
for a moment whenever somebody pushes it anew.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from functools import lru_cache

from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid

log = logging.getLogger("holdfast.storage")

LENGTH_LIMIT = 256

PAUSES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""Seconds between looks at an empty link: its writer may have to wait for a busy processor."""
RECENT = 60.0
"""Seconds since a link was emptied after which nobody is still writing it. It leaves room for a file
server's clock that is not quite ours."""


def parse(content: bytes, key: str) -> Digest | None:
    try:
        return _digest(content)
    except (UnicodeDecodeError, DigestInvalid):
        log.warning("damaged link %s counts as absent; a new push mends it", key)
        return None


def read(driver: Driver, key: str) -> Digest | None:
    """What the link names, or None if it is absent or damaged."""
    held = content(driver, key)
    return None if held is None else parse(held, key)


def content(driver: Driver, key: str) -> bytes | None:
    """What is in the link, for parse(), or None if it is absent.

    Waits up to a quarter of a second for one that was emptied within the last minute.
    """
    try:
        held = driver.read(key, length=LENGTH_LIMIT)
        if held or driver.remote or abs(time.time() - driver.stat(key).modified) > RECENT:
            return held
        for pause in PAUSES:
            time.sleep(pause)
            held = driver.read(key, length=LENGTH_LIMIT)
            if held:
                break
    except ObjectNotFound:
        return None
    return held


def read_below(
    driver: Driver, prefix: str, names: Sequence[str], leaf: str = "link"
) -> dict[str, Digest]:
    """As read() of `<prefix>/<name>/<leaf>` for each name, all at once; None is left out."""
    found = {}
    contents = driver.read_leaves(prefix, names, leaf, length=LENGTH_LIMIT)
    for name, held in contents.items():
        key = f"{prefix}/{name}/{leaf}"
        digest = parse(held, key) if held else read(driver, key)
        if digest is not None:
            found[name] = digest
    return found


def write(driver: Driver, key: str, digest: Digest) -> None:
    """Write the link unless it is there and right: an unchanged link costs no write.

    Where storage is remote the two cost the same, so there it is written in any case.
    """
    if driver.remote or read(driver, key) != digest:
        driver.write(key, encode(digest))


def fingerprint(digest: Digest) -> str:
    """As ObjectInfo has it, of a link that names the digest."""
    return hashlib.md5(encode(digest), usedforsecurity=False).hexdigest()


def encode(digest: Digest) -> bytes:
    return str(digest).encode("ascii")


@lru_cache(maxsize=1024)
def _digest(content: bytes) -> Digest:
    return Digest.parse(content.decode("ascii").strip())
