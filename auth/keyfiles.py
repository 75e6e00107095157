"""The files of signing keys, and how the first of them is made by one of many.

    <directory>/                               mode 0700
        20260101T093000Z-<kid>.pem             mode 0600; the time is when it was made
        20260401T093000Z-<kid>.pem
        .creating                              held by whoever makes the first key
        sealing-key                            mode 0600; see auth/sealed.py

Files appear whole and are never written again. The directory may be shared by nodes, so nothing is
locked: only creating a name is exclusive everywhere. Everything here raises OSError.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from auth.signing import Algorithm, generate, utc

log = logging.getLogger("holdfast.auth")

SEAL: Final = "sealing-key"
"""What robots' and refresh tokens are sealed with. It is never rotated by itself, because every token
that was given out would end with it."""

_CLAIM: Final = ".creating"
_CLAIM_LIFE: Final = 10.0  # seconds without a key after which whoever claimed to make it has died
_PAUSE: Final = 0.02

_NAME = re.compile(r"([0-9]{8}T[0-9]{6}Z)-.*\.pem", re.ASCII)
_STAMP: Final = "%Y%m%dT%H%M%SZ"


def names(directory: str) -> list[str]:
    """Of whatever looks like a key; whether it is one is not looked at."""
    return sorted(
        name for name in os.listdir(directory) if name.endswith(".pem") and not name.startswith(".")
    )


def exposed(path: str) -> list[str]:
    """What is wrong with how a private key is kept, a sentence each; nothing where there is none."""
    name, found = os.path.basename(path), []
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            found.append(f"{name} is a symbolic link; put the key itself there.")
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return found
    if stat.S_ISREG(mode) and mode & 0o077:
        readable = f"{name} can be read by others (mode {stat.S_IMODE(mode):04o}); use 0600."
        found.append(readable)
    return found


def created(name: str, modified: float) -> float:
    """By the name; a key that somebody put there under another name counts from its last change."""
    matched = _NAME.fullmatch(name)
    if matched:
        try:
            return datetime.strptime(matched[1], _STAMP).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return modified
    return modified


def create_first(directory: str, algorithm: Algorithm, clock: Callable[[], float]) -> None:
    """Make the first key unless somebody else does; whoever loses waits for the winner's."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    claim = os.path.join(directory, _CLAIM)
    seen: tuple[int, ...] | None = None
    since = time.monotonic()
    while not names(directory):
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            now = _identity(claim)
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > _CLAIM_LIFE:
                _remove(claim)
            time.sleep(_PAUSE)
            continue
        try:
            if not names(directory):
                write(directory, algorithm, clock())
        finally:
            _remove(claim)


def write(directory: str, algorithm: Algorithm, made: float) -> str:
    """Make a key that counts as made at that time, and return its kid. Durable when it returns."""
    key, pem = generate(algorithm, utc(made))
    name = f"{utc(made).strftime(_STAMP)}-{key.kid}.pem"
    path = os.path.join(directory, name)
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            give_to_owner(descriptor, directory)
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except OSError:
        _remove(temporary)
        raise
    sync(directory)
    log.info("A new key to sign tokens is in %s.", path)
    return key.kid


def give_to_owner(descriptor: int, directory: str) -> None:
    """What root makes, the registry's user is to read: whoever owns the directory owns the file."""
    if os.geteuid() == 0:
        owner = os.stat(directory)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _identity(path: str) -> tuple[int, ...] | None:
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    return info.st_dev, info.st_ino, info.st_mtime_ns


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
