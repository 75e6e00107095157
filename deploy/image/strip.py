"""Make a virtual environment small and the same every time: `python strip.py VENV DIRECTORY...`.

Run by the Python of VENV, once everything is installed. Takes away what only installing needs, and pip
itself; then compiles what is left into files that hold no time, and gives every file and directory the
time $SOURCE_DATE_EPOCH. Makes each DIRECTORY, with that time too. Fails if what is left lacks a package
that it needs.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from py_compile import PycInvalidationMode

BUILDING = (
    *("editables", "hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"),
    *("pip", "setuptools", "wheel"),  # pip is last to be asked, and so goes with the others
)
SERVICES = frozenset({"s3", "sso", "sso-oidc", "signin", "sts"})
"""Those of botocore's hundreds that the S3 driver and its ways to credentials call."""


def strip(environment: Path, directories: list[Path]) -> None:
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    installed = {found.name.lower().replace("_", "-") for found in metadata.distributions()}
    building = [name for name in BUILDING if name in installed]
    _pip("uninstall", "-q", "-y", *[name for name in building if name != "pip"])
    _pip("check")
    _pip("uninstall", "-q", "-y", "pip")

    (data,) = environment.glob("lib/python3*/site-packages/botocore/data")
    for service in data.iterdir():
        if service.is_dir() and service.name not in SERVICES:
            shutil.rmtree(service)
    for script in environment.glob("bin/*ctivate*"):
        script.unlink()
    for cache in list(environment.rglob("__pycache__")):
        shutil.rmtree(cache)

    compiled = compileall.compile_dir(
        environment / "lib", quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    if not compiled:
        raise SystemExit("Not every module could be compiled; the lines above say which.")
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
        os.utime(directory, (epoch, epoch))
    for above, _, files in os.walk(environment):
        for path in (above, *(os.path.join(above, name) for name in files)):
            os.utime(path, (epoch, epoch), follow_symlinks=False)


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)  # noqa: S603


if __name__ == "__main__":
    strip(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
