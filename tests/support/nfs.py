"""A real NFS server, and machines with the kernel's own client that have mounted it.

The server is nfs-ganesha, in the private network of the guests, on a directory of this machine. Now and
then it crashes (4.3: "segfault at 118 in libganesha_nfsd.so", twice in a day of tests), and is started
again, as a service manager does; the machines' mounts are hard, so they wait for that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.engines import missing, program
from tests.support.guests.machine import Guest, Guests, guests
from tests.support.guests.network import HOST, Network

MOUNT_OPTIONS = os.environ.get("HOLDFAST_TEST_NFS_OPTIONS", "vers=4.1")
"""What nodes mount with. The default is the one of which least is sure: every cache is on."""
MOUNT_POINT = "/srv/registry"
MODULE = "*/ganesha/libfsalvfs.so"
START_TIMEOUT = 30.0

_CONFIG = """
NFS_CORE_PARAM {{
    Bind_addr = {address}; NFS_Port = 2049; Protocols = 4;
    Enable_UDP = false; Enable_NLM = false; Enable_RQUOTA = false;
}}
NFSv4 {{
    Graceless = true; Lease_Lifetime = 10; Minor_Versions = 0, 1, 2; Only_Numeric_Owners = true;
    RecoveryBackend = fs; RecoveryRoot = {directory}/recovery;
}}
EXPORT {{
    Export_Id = 1; Path = {export}; Pseudo = /export;
    Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4; Transports = TCP;
    # Tests also look at, and alter, what is exported.
    Attr_Expiration_Time = 0;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""


@dataclass(frozen=True, slots=True)
class NfsNodes:
    """Machines that have `export` of this one at MOUNT_POINT."""

    export: Path
    machines: Guests
    server: NfsServer


@contextlib.contextmanager
def nfs_nodes(directory: Path, shared: Path) -> Iterator[NfsNodes]:
    """`shared` is what the machines see of this one's files as they change: configurations."""
    server = program("ganesha.nfsd")
    if not any(Path("/usr/lib").glob(MODULE)):
        missing("nfs-ganesha-vfs is not installed")
    export = directory / "export"
    export.mkdir()
    with guests(directory, shared) as machines:
        with _serving(server, directory, export, machines.network) as serving:
            for guest in machines.all:
                _mount(guest)
            yield NfsNodes(export, machines, serving)


class NfsServer:
    """Runs until close(), by as many processes as that takes."""

    def __init__(self, command: Sequence[str], output: Path) -> None:
        self._command = command
        self._output = output
        self._closing = threading.Event()
        self.process = self._start()
        self._watch = threading.Thread(target=self._keep, name="nfs-server", daemon=True)
        self._watch.start()

    def close(self) -> None:
        self._closing.set()
        self.process.kill()
        self._watch.join(10)
        self.process.kill()
        self.process.wait(10)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while True:
            self.process.wait()
            if self._closing.wait(1):
                return
            self.process = self._start()


@contextlib.contextmanager
def _serving(server: str, directory: Path, export: Path, network: Network) -> Iterator[NfsServer]:
    (directory / "recovery").mkdir()
    config = directory / "ganesha.conf"
    config.write_text(_CONFIG.format(address=HOST, directory=directory, export=export))
    log = directory / "ganesha.log"
    command = [
        *(server, "-F", "-f", str(config), "-L", str(log)),
        *("-p", str(directory / "ganesha.pid"), "-N", "NIV_EVENT"),
    ]
    command = [program("setpriv"), "--pdeathsig", "KILL", "--", *network.inside(*command)]
    serving = NfsServer(command, directory / "ganesha.out")
    try:
        _await_server(network, serving.process, log)
        yield serving
    finally:
        serving.close()


def _await_server(network: Network, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    asking = network.inside(program("bash"), "-c", f"exec 3<>/dev/tcp/{HOST}/2049")
    while time.monotonic() < deadline and process.poll() is None:
        if subprocess.run(asking, capture_output=True, check=False, timeout=10).returncode == 0:
            return
        time.sleep(0.1)
    said = log.read_text(errors="replace")[-4000:] if log.exists() else ""
    raise AssertionError(f"nfs-ganesha did not start:\n{said}")


def _mount(guest: Guest) -> None:
    guest.run("mkdir", "-p", MOUNT_POINT)
    addresses = f"proto=tcp,hard,addr={HOST},clientaddr={guest.address}"
    # Without a helper of mount's, which would want name services.
    options = f"{MOUNT_OPTIONS},{addresses}"
    guest.run("mount", "-i", "-t", "nfs4", "-o", options, f"{HOST}:/export", MOUNT_POINT)
