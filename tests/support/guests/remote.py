"""A command in a guest, as a process here: what it prints, how it ends, and the signals that it gets.

    python -m tests.support.guests.remote PORT -- COMMAND...

PORT is where the guest's agent answers on this machine's loopback. Whoever kills this kills the command.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import BinaryIO

from tests.support.guests.agent import END, HEAD

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


GONE = 255


def main(port: int, argv: list[str]) -> int:
    try:
        return _command(port, argv)
    except OSError as error:
        print(f"The guest is gone: {error}", file=sys.stderr)
        return GONE


def _command(port: int, argv: list[str]) -> int:
    with socket.create_connection(("127.0.0.1", port)) as agent:
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: agent.sendall(bytes([number])))
        order = {"argv": argv, "env": dict(os.environ), "cwd": os.getcwd()}
        agent.sendall(json.dumps(order).encode() + b"\n")
        with agent.makefile("rb") as frames:
            while head := _exactly(frames, HEAD.size):
                kind, length = HEAD.unpack(head)
                content = _exactly(frames, length)
                if kind == END:
                    code = int(content)
                    return code if code >= 0 else 128 - code
                while content:
                    content = content[os.write(kind, content) :]
    raise ConnectionError("it said no exit code")


def _exactly(frames: BinaryIO, length: int) -> bytes:
    """Nothing if the other end is gone."""
    content = frames.read(length)
    return content if len(content) == length else b""


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[3:]))
