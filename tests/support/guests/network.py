"""A private network for guests, which nobody outside of it can reach but by doors on the loopback.

The network is a namespace that lives as long as the process which made it: this module, run by
`private_network()`. A door is a listening socket of this machine that is handed to that process, which
passes on what comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.support.engines import missing, program, require_root

HOST = "10.77.0.1"
"""This machine, as the guests see it."""
BRIDGE = "bridge"
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Network:
    process: subprocess.Popen[bytes]
    control: socket.socket

    def inside(self, *command: str) -> list[str]:
        """A command, as it has to be given to run in the network."""
        return [program("nsenter"), f"--net=/proc/{self.process.pid}/ns/net", "--", *command]

    def door(self, port: int, address: str, behind: int) -> None:
        """From now on `port` of this machine's loopback is `behind` of a guest."""
        with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
            socket.send_fds(self.control, [f"{address} {behind}".encode()], [listening.fileno()])
            assert self.control.recv(16) == b"open"


def tap(number: int) -> str:
    return f"tap{number}"


@contextlib.contextmanager
def private_network(directory: Path, guests: int) -> Iterator[Network]:
    """With a bridge, and a tap device for each guest."""
    require_root("a private network")
    for needed in ("ip", "nsenter", "unshare", "setpriv"):
        program(needed)
    if not Path("/dev/net/tun").exists():
        missing("there is no /dev/net/tun")
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log = directory / "network.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(program("unshare"), "--net", "--"),
                *(program("setpriv"), "--pdeathsig", "KILL", "--"),
                *(sys.executable, "-m", __name__, str(there.fileno()), str(guests)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[there.fileno()],
            start_new_session=True,
        )
    there.close()
    here.settimeout(30)
    try:
        if here.recv(16) != b"ready":
            missing(f"a private network is not permitted here ({log.read_text()[-500:].strip()})")
        yield Network(process, here)
    finally:
        process.kill()
        process.wait(10)
        here.close()


def _make(guests: int) -> None:
    def ip(*arguments: str) -> None:
        subprocess.run([program("ip"), *arguments], check=True)

    ip("link", "set", "lo", "up")
    ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    ip("address", "add", f"{HOST}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    for number in range(guests):
        ip("tuntap", "add", tap(number), "mode", "tap")
        ip("link", "set", tap(number), "master", BRIDGE, "up")


async def _serve(control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    over: asyncio.Event = asyncio.Event()
    doors: set[asyncio.Task[asyncio.Server]] = set()

    def order() -> None:
        text, (descriptor, *_), _, _ = socket.recv_fds(control, 256, 1)
        address, port = text.decode().split()
        listening = socket.socket(fileno=descriptor)
        opening = loop.create_task(
            asyncio.start_server(partial(_pass_on, address, int(port)), sock=listening)
        )
        doors.add(opening)
        opening.add_done_callback(lambda _: control.send(b"open"))

    loop.add_reader(control, order)
    control.send(b"ready")
    await over.wait()


async def _pass_on(
    address: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Both ways to their ends. Who comes to a port where nobody listens is cut off."""
    try:
        onward_reader, onward_writer = await asyncio.open_connection(address, port)
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(_pump(reader, onward_writer), _pump(onward_reader, writer))
    for each in (writer, onward_writer):
        each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()  # a broken connection is passed on as one


def main(descriptor: int, guests: int) -> None:
    with socket.socket(fileno=descriptor) as control:
        _make(guests)
        asyncio.run(_serve(control))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
