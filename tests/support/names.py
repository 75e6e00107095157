"""Registries under names of their own, which engines trust by a private certificate authority only.

Docker takes any certificate of a registry in 127.0.0.0/8, whatever else it is told. So these live at
::1, under names that a program finds in a mount namespace of its own: there /etc/hosts and
/etc/docker are those of the test. What is left on the machine is an empty /etc/docker at most.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.engines import missing, program, require_root

REGISTRY = "registry.test"
TOKENS = "tokens.test"
LOOPBACK = "[::1]"

_SCRIPT = """\
mkdir -p /etc/docker
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/docker" /etc/docker
shift
exec "$@"
"""


class Names:
    """A place where the names mean this machine. `prefix` goes before a command that is to run there."""

    def __init__(self, directory: Path) -> None:
        require_root("a mount namespace")
        _require_ipv6()
        (directory / "docker").mkdir()
        own = f"::1 {REGISTRY} {TOKENS}\n127.0.0.1 localhost\n"
        (directory / "hosts").write_text(own)
        script = directory / "within"
        script.write_text(_SCRIPT)
        self._docker = directory / "docker"
        self.prefix = (
            *(program("unshare"), "-m", "--propagation", "private"),
            *(program("sh"), "-e", str(script), str(directory)),
        )

    def certificates(self, address: str) -> Path:
        """Where the Docker engine looks for the authorities of `address`. Made if need be."""
        directory = self._docker / "certs.d" / address
        directory.mkdir(parents=True, exist_ok=True)
        return directory


def _require_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        missing(f"there is no IPv6 loopback address here ({error.strerror})")
