"""Hashes and writes what it is told to, a MiB at a time: `python -m tests.bench.writer FILE`.

`prepare SIZE SEED` makes the bytes, `write` hashes and writes them and answers with their digest.
"""

from __future__ import annotations

import hashlib
import os
import sys

from tests.bench.content import Content


def write(path: str, content: Content) -> str:
    state = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for piece in content.pieces():
            state.update(piece)
            if os.write(descriptor, piece) != len(piece):
                raise OSError(f"{path}: not all of it was written")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return f"sha256:{state.hexdigest()}"


def main(path: str) -> None:
    content = Content(0)
    for line in sys.stdin:
        match line.split():
            case ["prepare", size, seed]:
                content = Content(int(size), seed=int(seed))
                print("ready", flush=True)
            case ["write"]:
                print(write(path, content), flush=True)
            case _:
                raise SystemExit(f"no such order: {line!r}")


if __name__ == "__main__":
    main(sys.argv[1])
