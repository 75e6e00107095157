"""The servers that are compared, all on one form of configuration file.

Every contender reads Distribution's `config.yml`, with the same storage, cache and health settings:
those that Distribution's own image ships. Each writes one line of log per request, to a file; that is
level `warn` at the peer, whose access line has no level and whose `info` would add two more.
"""

from __future__ import annotations

import compileall
import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import Server, free_port, merged, running

CONFIG = "{config}"

WITHOUT_AUTHORITY = ("env", "-u", "AWS_CA_BUNDLE")
"""Distribution does not start where the machine has one: its transport cannot take it."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to be measured. `command` has CONFIG where its configuration file's path belongs."""

    name: str
    command: tuple[str, ...]
    log_level: str
    version: str
    is_ours: bool = False

    def command_in(self, directory: Path) -> tuple[str, ...]:
        """With the configuration that prepare() writes there."""
        path = str(directory / "config.yml")
        return tuple(path if word == CONFIG else word for word in self.command)

    def prepare(
        self,
        directory: Path,
        storage: Mapping[str, object] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> Prepared:
        """Write its configuration, for a free port and an empty tree below `directory`.

        `storage` takes the tree's place in the section of that name, with what else belongs there;
        `more` is laid over the whole.
        """
        directory.mkdir(parents=True)
        port = free_port()
        root = directory / "tree"
        storage = storage or {"filesystem": {"rootdirectory": str(root)}}
        settings = merged(_settings(port, storage, self.log_level), more or {})
        (directory / "config.yml").write_text(yaml.safe_dump(settings))
        return Prepared(self.command_in(directory), port, root, directory / "log")

    @contextlib.contextmanager
    def start(
        self,
        directory: Path,
        storage: Mapping[str, object] | None = None,
        more: Mapping[str, object] | None = None,
        *,
        authority: Path | None = None,
        status: int = 200,
    ) -> Iterator[Server]:
        """Run it until the block ends. Raises AssertionError, with its log, where it does not start.

        `authority` is of the certificate that `more` has in http.tls; `status` is what /v2/ answers
        when it is ready.
        """
        ready = self.prepare(directory, storage, more)
        command = (*WITHOUT_AUTHORITY, *ready.command)
        with running(
            command,
            port=ready.port,
            log=ready.log,
            root=ready.root,
            ready="/v2/",
            status=status,
            authority=authority,
        ) as server:
            yield server


@dataclass(frozen=True, slots=True)
class Prepared:
    command: tuple[str, ...]
    port: int
    root: Path
    log: Path


def holdfast() -> Contender:
    command = (sys.executable, "-m", "registry.cli", "serve", CONFIG)
    return Contender("holdfast", command, "info", metadata.version("holdfast"), is_ours=True)


def compile_holdfast() -> None:
    """As pip does it where Holdfast is installed. Where Python is told to write no bytecode, each start
    of a checkout would compile all of it, which is a quarter of a start.
    """
    for package in ("registry", "storage", "auth", "registry_gc"):
        found = find_spec(package)
        for directory in found.submodule_search_locations or () if found else ():
            compileall.compile_dir(directory, quiet=1)


def distribution(program: str = "docker-registry") -> Contender | None:
    """Debian's docker-registry, or None where it is not installed."""
    path = shutil.which(program)
    if path is None:
        return None
    return Contender(program, (path, "serve", CONFIG), "warn", _version(path))


def from_text(text: str) -> Contender:
    """`NAME=COMMAND`, where COMMAND is run with the configuration's path for {config}, or behind it.

    Raises ValueError where that is not its form or there is no such program.
    """
    name, equals, rest = text.partition("=")
    words = shlex.split(rest)
    if not equals or not name or not words:
        raise ValueError(
            f"{text!r} is no peer; write NAME=COMMAND, as in v3='/opt/registry serve {{config}}'."
        )
    if shutil.which(words[0]) is None:
        raise ValueError(f"There is no program {words[0]!r} for the peer {name}; give its path.")
    if CONFIG not in words:
        words.append(CONFIG)
    return Contender(name, tuple(words), "warn", _version(words[0]))


def _version(program: str) -> str:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
        if found := re.search(r"v?\d+\.\d+\S*", said.stdout):
            return found[0]
    return "unknown version"


def _settings(port: int, storage: Mapping[str, object], log_level: str) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": log_level},
        "storage": {
            "cache": {"blobdescriptor": "inmemory"},
            "delete": {"enabled": True},
            **storage,
        },
        "http": {
            "addr": f"127.0.0.1:{port}",
            "secret": "a secret that both sides may know",
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        },
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }
