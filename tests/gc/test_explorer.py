"""The real nodes and the real collector in every order that thousands of seeds give, and planted faults.

HOLDFAST_EXPLORER_SEEDS is how many seeds there are in all; a nightly run has a hundred thousand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.gc.explorer.mutants import MUTANTS

SEEDS = int(os.environ.get("HOLDFAST_EXPLORER_SEEDS", "2000"))
AT_ONCE = os.cpu_count() or 1
QUICK = ("--undo", "0", "--minimum-age", "15")
SETTINGS: list[tuple[str, ...]] = [
    (),
    ("--posix",),
    ("--untagged",),
    QUICK,
    (*QUICK, "--posix", "--untagged"),
    (*QUICK, "--untagged", "--harsh", "3"),
    (*QUICK, "--lost-discards", "0.3"),
    (*QUICK, "--posix", "--harsh", "2", "--lost-discards", "0.3"),
    (*QUICK, "--untagged", "--budgets"),
]


@dataclass(frozen=True)
class Recorded:
    """Where a mutant was found; a change of the code moves it, so the search goes on from there."""

    seed: int
    arguments: tuple[str, ...] = QUICK


FOUND = {
    "no_hold": Recorded(6),
    "no_confirm": Recorded(13),
    "no_keep": Recorded(3),
    "no_wait_after_doom": Recorded(18, (*QUICK, "--posix", "--untagged")),
    "no_wait_before_mark": Recorded(3315, (*QUICK, "--untagged", "--harsh", "3")),
    "ack_expired": Recorded(329),
    "no_fence": Recorded(40),
    "no_marker": Recorded(52),
    "undoom_early": Recorded(19, (*QUICK, "--lost-discards", "0.3")),
    "late_removal": Recorded(9, (*QUICK, "--untagged")),
    "one_state_object": Recorded(14, (*QUICK, "--untagged")),
    "aged_by_the_list": Recorded(591, ("--untagged",)),
    "any_look": Recorded(79, (*QUICK, "--budgets")),
}
FARTHEST = 1500
"""Seeds after the recorded one."""


def explore(first: int, count: int, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.gc.explorer", str(first), str(count), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(3600)
def test_no_seed_loses_an_acknowledged_image() -> None:
    share = SEEDS // len(SETTINGS)

    def one(number: int) -> tuple[int, dict[str, Any]]:
        return explore(number * share, share, *SETTINGS[number])

    total: Counter[str] = Counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, (code, found) in enumerate(pool.map(one, range(len(SETTINGS)))):
            assert code == 0, f"{' '.join(SETTINGS[number])}: {found}"
            total.update(found)
    # What is not explored is not found: pushes, removals, and each kind of trouble did happen.
    for what in (
        "ack",
        "discard",
        "hold",
        "run",
        "crash",
        "timeout",
        "slow",
        "lost",
        "void",
        "went on",
    ):
        assert total[what] > SEEDS / 100, what


def test_every_mutant_is_recorded() -> None:
    assert FOUND.keys() == MUTANTS.keys()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mutant", sorted(FOUND))
def test_a_planted_fault_is_found(mutant: str) -> None:
    recorded = FOUND[mutant]
    code, found = explore(recorded.seed, FARTHEST, "--mutant", mutant, *recorded.arguments)
    assert code == 0, found
    assert "acknowledged and lost" in found["violation"]
    code, sound = explore(found["seed"], 1, *recorded.arguments)
    assert code == 0, f"it is not the mutant's fault: {sound}"


def test_a_seed_is_the_same_twice() -> None:
    assert explore(7, 3) == explore(7, 3)
