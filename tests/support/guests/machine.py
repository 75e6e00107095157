"""Starting guests, and what to do with one that runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.clients import Outcome, run
from tests.support.engines import missing, program
from tests.support.guests import agent
from tests.support.guests.network import Network, private_network, tap
from tests.support.servers import free_port

MODULES = Path("/usr/lib/uml/modules")
AGENT_PORT = 1
MEMORY = "1024M"
START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Guest:
    name: str
    address: str
    network: Network
    agent: int
    """The port of this machine's loopback at which its agent answers."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before a command, this makes it one of the guest."""
        return (sys.executable, "-m", "tests.support.guests.remote", str(self.agent), "--")

    def run(self, *command: str, check: bool = True, timeout: float = 120.0) -> Outcome:
        return run([*self.prefix, *command], check=check, timeout=timeout)

    def reach(self, port: int) -> None:
        """Let a port of the guest answer on this machine's loopback."""
        self.network.door(port, self.address, port)


@dataclass(frozen=True, slots=True)
class Guests:
    network: Network
    all: Sequence[Guest]


@contextlib.contextmanager
def guests(
    directory: Path, shared: Path, count: int = 2, *, systemd: bool = False
) -> Iterator[Guests]:
    """Running guests. They write to `shared` as we do; their other writes stay with them.

    With `systemd` that is their first process, with nothing to run yet but the agent and its journal.
    They need root, /dev/net/tun, and Debian's user-mode-linux and kmod.
    """
    kernel, depmod = program("linux.uml"), program("depmod")
    modules = _modules(directory, depmod)
    with private_network(directory, count) as network, contextlib.ExitStack() as running:
        started = []
        for number in range(count):
            guest = Guest(f"node-{number + 1}", f"10.77.0.{number + 2}", network, free_port())
            process = running.enter_context(
                _boot(kernel, modules, directory, shared, guest, tap(number), systemd)
            )
            started.append((guest, process))
        for guest, process in started:
            network.door(guest.agent, guest.address, AGENT_PORT)
            _await_agent(guest, process, directory / f"{guest.name}.log")
        yield Guests(network, [guest for guest, _ in started])


def _modules(directory: Path, depmod: str) -> Path:
    """A directory for modprobe, with an index of the kernel's modules, which Debian does not make."""
    try:
        (version,) = MODULES.iterdir()
    except (OSError, ValueError):
        missing(f"{MODULES} does not hold the modules of one kernel")
    place = directory / "modules/lib/modules" / version.name
    place.mkdir(parents=True)
    for entry in version.iterdir():
        (place / entry.name).symlink_to(entry)
    subprocess.run([depmod, "-b", directory / "modules", version.name], check=True, timeout=60)
    return directory / "modules"


@contextlib.contextmanager
def _boot(
    kernel: str,
    modules: Path,
    directory: Path,
    shared: Path,
    guest: Guest,
    device: str,
    systemd: bool,
) -> Iterator[subprocess.Popen[bytes]]:
    words = {
        "modules": modules,
        "shared": shared,
        "host": guest.name,
        "address": guest.address,
        "python": sys.executable,
        "agent": agent.__file__,
        "port": AGENT_PORT,
        "manager": Path(__file__).with_name("systemd.sh") if systemd else "",
    }
    command = [
        kernel,
        f"mem={MEMORY}",
        f"umid={guest.name}",
        f"uml_dir={directory}",
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
        *("con=null", "con0=null,fd:1", "con1=null,fd:1"),
        f"vec0:transport=tap,ifname={device},depth=128,gro=1",
        f"init={Path(__file__).with_name('init.sh')}",
        *(f"guest.{name}={value}" for name, value in words.items()),
    ]
    with (directory / f"{guest.name}.log").open("wb") as output:
        process = subprocess.Popen(
            [
                *(program("setpriv"), "--pdeathsig", "KILL", "--"),
                # It is several processes, of which the end of the first would leave some.
                *(program("unshare"), "--pid", "--fork", "--kill-child=KILL", "--"),
                *guest.network.inside(*command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": "/dev/shm"},  # its memory is a file there
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait(10)


def _await_agent(guest: Guest, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if guest.run("true", check=False, timeout=10).code == 0:
            return
        time.sleep(0.2)
    raise AssertionError(f"{guest.name} did not start:\n{log.read_text(errors='replace')[-4000:]}")
