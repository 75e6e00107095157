"""The image, built by a real Docker engine from a base made on this machine; and a registry that tells."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.told import Told
from tests.deploy.told import told as tell
from tests.support import clients
from tests.support.engines import missing, program, require_root

ROOT = Path(__file__).parents[2]
BASE, IMAGE = "holdfast-test/base", "holdfast-test/image"
INDEX = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")


@pytest.fixture(scope="session")
def docker() -> Iterator[clients.Docker]:
    with clients.docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def base(docker: clients.Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A minimal system with Python, from where this machine takes its packages."""
    require_root("debootstrap")
    debootstrap = program("debootstrap")
    mirror, release = _packages()
    system = tmp_path_factory.mktemp("base") / "system"
    include = "--include=python3,python3-venv,ca-certificates"
    clients.run(
        [debootstrap, "--variant=minbase", include, release, str(system), mirror], timeout=240
    )
    for waste in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(system / waste)
    trusted = ssl.get_default_verify_paths().cafile
    if trusted:  # the index may have a certificate that only this machine trusts
        shutil.copyfile(trusted, system / "etc/ssl/certs/ca-certificates.crt")
    archive = system.with_suffix(".tar")
    clients.run(["tar", "-C", str(system), "-cf", str(archive), "."])
    shutil.rmtree(system)
    docker("import", str(archive), BASE)
    archive.unlink()
    return BASE


@pytest.fixture(scope="session")
def image(docker: clients.Docker, base: str) -> str:
    given = [
        part
        for name in INDEX
        if name in os.environ
        for part in ("--build-arg", f"{name}={os.environ[name]}")
    ]
    docker(
        *("build", "-q", "--network", "host", "-f", str(ROOT / "deploy/Dockerfile"), "-t", IMAGE),
        *("--build-arg", f"BASE={base}", "--build-arg", "REVISION=tested", *given, str(ROOT)),
        timeout=240,
    )
    return IMAGE


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("told"))


def _packages() -> tuple[str, str]:
    """The first archive that apt is told of, and its release."""
    wanted = "$(SITE) $(RELEASE) $(COMPONENT)"
    told = subprocess.run(
        [program("apt-get"), "indextargets", "--format", wanted, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    archives = [line.split() for line in told.splitlines()]
    found = [
        (at, release) for at, release, part in archives if part == "main" and "-" not in release
    ]
    if not found:
        missing("apt knows no archive of a whole release")
    return found[0]
