"""Where the configuration file is, and its text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from registry.config.errors import ConfigError

PATH_VARIABLE: Final = "REGISTRY_CONFIGURATION_PATH"
DEFAULT_PATHS: Final = (
    Path("/etc/distribution/config.yml"),  # the image of Distribution 3
    Path("/etc/docker/registry/config.yml"),  # that of Distribution 2, and Debian's package
)
BUILT_IN: Final = "built-in defaults"
MAX_SIZE: Final = 1024 * 1024


def read(path: Path | None, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """The file's text, or None where there is no file, and what to call its source.

    A file that somebody named must be there; a default one only counts if it exists, and then must
    be readable. Raises ConfigError.
    """
    if path is not None:
        return _text(path), str(path)
    if environ.get(PATH_VARIABLE):
        named = Path(environ[PATH_VARIABLE])
        return _text(named), f"{named} ({PATH_VARIABLE})"
    for candidate in DEFAULT_PATHS:
        try:
            return _text(candidate), str(candidate)
        except _Missing:
            continue
    return None, BUILT_IN


class _Missing(ConfigError):
    pass


def _text(path: Path) -> str:
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _Missing(source, ["there is no such file; name the configuration file."]) from None
    except OSError as error:
        raise ConfigError(source, [f"cannot be read: {error.strerror or error}."]) from None
    except ValueError:  # a NUL, or what cannot be encoded
        raise ConfigError(repr(source), ["is not the name of a file."]) from None
    if len(data) > MAX_SIZE:
        raise ConfigError(source, ["is larger than 1 MiB; a configuration file is a few KiB."])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(source, [f"line {line}: is not UTF-8; save the file as UTF-8."]) from None
