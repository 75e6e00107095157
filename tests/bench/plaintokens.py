"""`python -m tests.bench.plaintokens PORT`: a token server as one writes it in an afternoon."""

from __future__ import annotations

import signal
import sys

from tests.bench.guarded import PASSWORD, USER
from tests.support.tokenserver import token_server

RIGHTS = frozenset(("pull", "push"))


def main() -> None:
    def end(*_: object) -> None:
        raise SystemExit

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with token_server({USER: PASSWORD}, {USER: RIGHTS}, port=int(sys.argv[1])):
        signal.pause()


if __name__ == "__main__":
    main()
