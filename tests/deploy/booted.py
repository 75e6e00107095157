"""A guest that systemd runs, with Holdfast installed there as deploy/systemd/README.md says."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.units import SOURCE
from tests.support.api import Api, api
from tests.support.clients import CommandFailed, wait_for
from tests.support.engines import missing
from tests.support.guests.machine import Guest, guests
from tests.support.servers import free_port

CHECKOUT = Path(__file__).parents[2]
PORT = 5000
SERVICE, COLLECTOR = "holdfast.service", "registry-gc.service"
PATIENCE = 120.0

# In the place of the README's pip: what this interpreter runs with is bound to where the units look for
# it, for they see no home directories and nothing of others in /tmp. A library of the interpreter's own
# has to come before one that the system has of the same name.
ENVIRONMENT = """
mkdir -p /opt/python /opt/holdfast/bin /opt/holdfast/{packages} /opt/holdfast/checkout
chmod a+rx {base} {checkout} {site} # in the guest alone
mount --bind {base} /opt/python
mount --bind {checkout} /opt/holdfast/checkout
mount --bind {site} /opt/holdfast/{packages}
echo /opt/python/lib >/etc/ld.so.conf.d/000-python.conf
ldconfig
echo 'home = /opt/python/bin' >/opt/holdfast/pyvenv.cfg
ln -s /opt/python/bin/{name} /opt/holdfast/bin/python
printf '%s\\n' /opt/holdfast/checkout /opt/holdfast/checkout/gc >/opt/holdfast/{packages}/checkout.pth
for command in registry registry-gc; do
  sed '1s|.*|#!/opt/holdfast/bin/python|' {scripts}/$command >/opt/holdfast/bin/$command
  chmod 755 /opt/holdfast/bin/$command
done
"""


@dataclass(frozen=True, slots=True)
class Machine:
    guest: Guest
    url: str

    def api(self) -> contextlib.AbstractContextManager[Api]:
        return api(self.url)

    def shell(self, script: str) -> str:
        """What it printed; the test fails where one of its commands does."""
        return self.guest.run("sh", "-euc", script).stdout

    def show(self, unit: str, *names: str) -> list[str]:
        said = self.guest.run("systemctl", "show", f"--property={','.join(names)}", unit).stdout
        found = dict(line.split("=", 1) for line in said.splitlines())
        return [found[name] for name in names]

    def journal(self, unit: str) -> str:
        """What the unit and systemd said of it, from the oldest line on."""
        return self.guest.run("journalctl", "--no-pager", "-o", "cat", f"--unit={unit}").stdout

    def told(self, unit: str, text: str) -> str:
        """The journal, once it has `text`: what a process printed may come after its end is known."""
        found = [""]

        def told() -> bool:
            found.append(self.journal(unit))
            return text in found[-1]

        wait_for(told, f"the journal of {unit} has {text!r}", PATIENCE, every=0.5)
        return found[-1]


def documented() -> str:
    """The commands of the README by which an installed Holdfast becomes a service."""
    (block, *_) = re.findall(r"```sh\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    _, found, commands = block.partition("cd deploy/systemd\n")
    assert found
    assert "systemctl enable --now holdfast registry-gc.timer" in commands
    return f"cd {shlex.quote(str(SOURCE))}\n{commands}"


@contextlib.contextmanager
def machine(directory: Path, settings: dict[str, dict[str, str]]) -> Iterator[Machine]:
    """With `settings` by file of /etc/holdfast, the registry serving and the collector's timer started."""
    if not Path("/lib/systemd/systemd").exists():
        missing("systemd is not installed")
    shared = directory / "shared"
    shared.mkdir()
    with guests(directory, shared, 1, systemd=True) as started:
        (guest,) = started.all
        door = free_port()
        guest.network.door(door, guest.address, PORT)
        running = Machine(guest, f"http://127.0.0.1:{door}")
        running.shell(_environment())
        for name, variables in settings.items():
            lines = "".join(f"{key}={value}\n" for key, value in variables.items())
            write = f"mkdir -p /etc/holdfast; printf %s {shlex.quote(lines)} >/etc/holdfast/{name}"
            running.shell(write)
        try:
            running.shell(documented())
        except CommandFailed as failure:
            raise AssertionError(f"{failure}\n{running.journal(SERVICE)}") from failure
        yield running


def _environment() -> str:
    scripts, packages = Path(sysconfig.get_path("scripts")), Path(sysconfig.get_path("purelib"))
    values = {
        "base": sys.base_prefix,
        "checkout": CHECKOUT,
        "site": packages,
        "packages": packages.relative_to(sys.prefix),
        "scripts": scripts,
        "name": f"python{sys.version_info.major}.{sys.version_info.minor}",
    }
    return ENVIRONMENT.format(**{key: shlex.quote(str(value)) for key, value in values.items()})
