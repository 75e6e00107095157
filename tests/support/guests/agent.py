"""What runs in a guest: it executes commands that come over TCP, as an SSH server would.

    python agent.py ADDRESS PORT

A connection is one command. It begins with a line of JSON, `{"argv": [...], "env": {...}, "cwd": "..."}`;
each byte that follows is the number of a signal for the command, and the end of the connection is SIGKILL
to it and its children. Back come frames: a byte that says what it is (1 and 2 for what the command prints
on these descriptors, 0 for its exit code), the length in four bytes, and the content.

Only the standard library, and little of it: an import costs a guest tenths of seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

END, OUT, ERR = 0, 1, 2
HEAD = struct.Struct("!BI")


def serve(address: str, port: int) -> None:
    with socket.create_server((address, port), backlog=16) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_execute, args=(connection,), daemon=True).start()


def _execute(connection: socket.socket) -> None:
    with connection, connection.makefile("rb", buffering=0) as orders:
        order = json.loads(_line(connection))
        process = subprocess.Popen(
            order["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=order["env"],
            cwd=order["cwd"],
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        telling = threading.Lock()

        def tell(kind: int, content: bytes) -> None:
            # Whoever gave the order may be gone; its end ends the command, in `obey`.
            with telling, contextlib.suppress(OSError):
                connection.sendall(HEAD.pack(kind, len(content)) + content)

        def repeat(kind: int, descriptor: int) -> None:
            while content := os.read(descriptor, 65536):
                tell(kind, content)

        def obey() -> None:
            with contextlib.suppress(OSError):
                while numbers := orders.read(1):
                    _signal(process, numbers[0])
            _signal(process, signal.SIGKILL)

        repeating = [
            threading.Thread(target=repeat, args=(kind, pipe.fileno()), daemon=True)
            for kind, pipe in ((OUT, process.stdout), (ERR, process.stderr))
        ]
        for thread in (*repeating, threading.Thread(target=obey, daemon=True)):
            thread.start()
        code = process.wait()
        for thread in repeating:
            thread.join(5)  # a child that outlives the command may hold its pipes
        tell(END, str(code).encode())


def _line(connection: socket.socket) -> bytes:
    """To the end of the line and not a byte further, for what follows are signals."""
    line = b""
    while not line.endswith(b"\n") and (byte := connection.recv(1)):
        line += byte
    return line


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """SIGKILL to all that it started; another to itself alone, as a service manager does."""
    with contextlib.suppress(ProcessLookupError):
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
