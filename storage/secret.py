"""The key that signs upload tokens: configured, or else created once in the storage.

Kept in the storage so that every node that shares it shares the key, and nobody has to configure one.
"""

from __future__ import annotations

import secrets

from storage import layout
from storage.driver import Driver
from storage.driver_errors import Conflict, ObjectNotFound
from storage.translation import translated

LENGTH = 64


@translated
def load(driver: Driver) -> bytes | None:
    """What is kept there, where nothing may be written."""
    try:
        held = driver.read(layout.SECRET)
    except ObjectNotFound:
        return None
    return held if len(held) >= LENGTH else None


@translated
def load_or_create(driver: Driver) -> bytes:
    """The same bytes for every node, whichever of them comes first."""
    while True:
        held: bytes | None
        try:
            held = driver.read(layout.SECRET)
        except ObjectNotFound:
            held = None
        if held is not None and len(held) >= LENGTH:
            return held
        try:  # an emptied file must not become a key that anybody can guess
            driver.swap(layout.SECRET, secrets.token_hex(LENGTH).encode(), expected=held)
        except Conflict:
            continue
