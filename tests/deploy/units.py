"""The units of deploy/systemd, as they would be run, on this machine and below a directory of a test's."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "deploy/systemd"
UNITS = ("holdfast.service", "registry-gc.service", "registry-gc.timer")


@dataclass(frozen=True)
class Installation:
    """Below `directory` etc, state and units stand for those of a real system."""

    directory: Path

    @property
    def etc(self) -> Path:
        return self.directory / "etc"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def units(self) -> Path:
        return self.directory / "units"

    def place(self, text: str) -> str:
        """`text` with the paths that it has here."""
        places = {
            "/opt/holdfast/bin": str(Path(sys.executable).parent),
            "/etc/holdfast": str(self.etc),
            "/var/lib/holdfast": str(self.state),
        }
        for original, here in places.items():
            text = text.replace(original, here)
        return text

    def install(self) -> None:
        for directory in (self.etc, self.state, self.units):
            directory.mkdir(parents=True)
        for name in UNITS:
            (self.units / name).write_text(self.place((SOURCE / name).read_text()))
        for file in (SOURCE / "etc").iterdir():
            (self.etc / file.name).write_text(self.place(file.read_text()))

    def values(self, unit: str, key: str) -> list[str]:
        """What a unit says of a key, in its order."""
        lines = (self.units / unit).read_text().splitlines()
        return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]

    def environ(self, unit: str) -> dict[str, str]:
        """What systemd would make of Environment= and EnvironmentFile=: a later one wins."""
        found: dict[str, str] = {}
        for value in self.values(unit, "Environment"):
            found |= dict(part.split("=", 1) for part in shlex.split(value))
        for value in self.values(unit, "EnvironmentFile"):
            path = Path(value.removeprefix("-").replace("%p", unit.partition(".")[0]))
            if value.startswith("-") and not path.exists():
                continue
            for line in path.read_text().splitlines():
                if line and not line.startswith("#"):
                    name, _, text = line.partition("=")
                    found[name] = text
        return found

    def command(self, unit: str) -> list[str]:
        """ExecStart, with variables in the place of words that name them."""
        environ = self.environ(unit)
        words: list[str] = []
        (line,) = self.values(unit, "ExecStart")
        for word in shlex.split(line):
            words += shlex.split(environ[word[1:]]) if word.startswith("$") else [word]
        return words
