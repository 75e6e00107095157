"""The `registry` command as another user, also where only root may read the interpreter's files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.engines import require_root

USER = 65532
_SCRIPT = """
import codecs, os, sys
import registry.preview, registry.wiring
from registry.cli import main
for codec in ("ascii", "idna", "latin-1", "unicode_escape", "utf-8-sig"):
    codecs.lookup(codec)
user = int(sys.argv[1])
os.setgroups([])
os.setgid(user)
os.setuid(user)
main(sys.argv[2:])
"""
_ROOT = Path(__file__).parents[2]


def registry(*arguments: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run to its end. Another user has not to be known to the machine. Reads no variables."""
    command = [sys.executable, "-B", "-m", "registry.cli", *arguments]
    if user is not None:
        require_root("running as another user")
        command = [sys.executable, "-B", "-c", _SCRIPT, str(user), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=_ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")},
    )
