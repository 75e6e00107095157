"""The exhaustive model of the protocol holds, and each of its mutants does not."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.engines import program

MODEL = Path(__file__).with_name("gc.pml")
MUTANTS = [
    "NO_KEEP",
    "NO_WAIT1",
    "NO_WAIT2",
    "NO_CONFIRM",
    "NO_HOLD",
    "NO_FENCE",
    "ACK_EXPIRED",
    "UNDOOM_EARLY",
]
CONFIGURATIONS = {
    "two pushers": ["NP=2", "NG=1", "CYCLES=2"],
    "two collectors at once": ["NP=1", "NG=2", "CYCLES=2"],
    "a collector that is paused and taken over": ["NP=1", "NG=1", "PUSHES=2", "PAUSE"],
}


@dataclass(frozen=True)
class Checked:
    errors: int
    states: int
    complete: bool


def check(directory: Path, *definitions: str) -> Checked:
    """Every state that the model can be in. Up to 1 GB of memory."""
    defined = [f"-D{each}" for each in definitions]
    subprocess.run(
        [program("spin"), *defined, "-a", str(MODEL)], cwd=directory, check=True, timeout=60
    )
    flags = ["-O2", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=4000", "-w"]
    subprocess.run(
        [program("gcc"), *flags, "-o", "pan", "pan.c"], cwd=directory, check=True, timeout=60
    )
    done = subprocess.run(
        ["./pan", "-m4000000", "-w26"], cwd=directory, capture_output=True, text=True, timeout=240
    )
    errors = re.search(r"errors: (\d+)", done.stdout)
    states = re.search(r"(\d+) states, stored", done.stdout)
    assert errors is not None, done.stdout + done.stderr
    assert states is not None, done.stdout + done.stderr
    cut_short = re.search(r"Search not completed|max search depth|out of memory", done.stdout)
    return Checked(int(errors[1]), int(states[1]), cut_short is None)


@pytest.mark.parametrize("definitions", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_the_protocol_holds_in_every_state(definitions: list[str], tmp_path: Path) -> None:
    checked = check(tmp_path, *definitions)
    assert checked.errors == 0
    assert checked.complete
    assert checked.states > 100_000


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_loses_an_image(mutant: str, tmp_path: Path) -> None:
    assert check(tmp_path, "NP=2", "NG=1", "CYCLES=2", mutant).errors > 0
