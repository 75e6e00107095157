"""`python -m tests.gc.explorer FIRST COUNT [--mutant NAME] [...]`: prints what happened, as JSON.

Run it with PYTHONHASHSEED=0, or a seed is not the same twice. Ends with 1 at the first violation, unless
a mutant was planted: then with 1 if there is none.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from contextlib import ExitStack

from tests.gc.explorer.mutants import MUTANTS, deterministic, planted
from tests.gc.explorer.world import Setting, Violation, explore


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="")
    parser.add_argument("--untagged", action="store_true")
    parser.add_argument("--posix", action="store_true")
    parser.add_argument("--budgets", action="store_true")
    parser.add_argument("--harsh", type=float, default=1.0)
    parser.add_argument("--lost-discards", type=float, default=Setting().lost_discards)
    parser.add_argument("--undo", type=float, default=120.0)
    parser.add_argument("--minimum-age", type=float, default=60.0)
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        parser.error("run it with PYTHONHASHSEED=0, or a seed is not the same twice")
    setting = Setting(
        expiring=not asked.posix,
        untagged=asked.untagged,
        budgets=asked.budgets,
        harsh=asked.harsh,
        lost_discards=asked.lost_discards,
        undo=asked.undo,
        minimum_age=asked.minimum_age,
    )
    logging.disable()
    total: Counter[str] = Counter()
    for seed in range(asked.first, asked.first + asked.count):
        with ExitStack() as stack:
            stack.enter_context(deterministic(seed))
            if asked.mutant:
                stack.enter_context(planted(asked.mutant))
            try:
                total.update(explore(seed, setting))
            except Violation as violation:
                print(json.dumps({"seed": seed, "violation": str(violation)}))
                return 0 if asked.mutant else 1
    print(json.dumps(dict(sorted(total.items()))))
    return 1 if asked.mutant else 0


if __name__ == "__main__":
    sys.exit(main())
