"""Real programs that tests need, and what happens where one is missing.

On a laptop a test whose engine is missing is skipped, with the reason. Where
HOLDFAST_TEST_REQUIRE_ALL=1 is set, as CI does, it fails instead: nothing is left out unnoticed.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import NoReturn

import pytest

REQUIRE_ALL = "HOLDFAST_TEST_REQUIRE_ALL"


def missing(reason: str) -> NoReturn:
    """Skip the test for `reason`, or fail it where everything is required."""
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL}=1 is set", pytrace=False)
    pytest.skip(reason)


def program(name: str) -> str:
    """The path of a program, or the test ends here.

    Some come as Python packages, into an environment that need not be the one on the PATH.
    """
    beside = os.path.dirname(sys.executable)
    path = shutil.which(name) or shutil.which(
        name, path=f"{beside}:/usr/sbin:/sbin:/usr/local/sbin"
    )
    if path is None:
        missing(f"{name} is not installed")
    return path


def require_root(purpose: str) -> None:
    if os.geteuid() != 0:
        missing(f"{purpose} needs root")
