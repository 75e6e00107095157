"""Holdfast that asks for remote key sets every second: `python -m tests.registry.auth.hastened serve X`.

All else is the program. Its own interval is half a minute, and every wait for it would be as long.
"""

from __future__ import annotations

from auth import keysets
from registry import cli

if __name__ == "__main__":
    vars(keysets).update(REFRESH=1.0, OLD=2.0)
    cli.main()
