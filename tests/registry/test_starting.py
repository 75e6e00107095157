"""What `registry serve` says when it cannot start: one line, with the path and what to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage.drivers.filesystem import FilesystemDriver
from tests.faults.mounts import mounted_readonly, tmpfs
from tests.gc.shop import Shop
from tests.support.certificates import Authority
from tests.support.otheruser import USER, registry
from tests.support.servers import free_port, holdfast

PREFIX = "The storage cannot be used: "


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="starting-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def said(place: Path, user: int | None = None, **config: Any) -> str:
    """The one line on stderr of a registry on `place`/tree that exits with 1."""
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(place / "tree")}},
        "http": {"addr": f"127.0.0.1:{free_port()}", **config},
    }
    path = place / "config.yml"
    path.write_text(yaml.safe_dump(settings))
    path.chmod(0o644)
    done = registry("serve", str(path), user=user)
    assert done.returncode == 1, done.stderr
    assert "msg=starting" not in done.stdout
    (line,) = done.stderr.splitlines()
    return line


def fill(root: Path) -> None:
    driver = FilesystemDriver(root)
    driver.prepare()
    Shop(driver).image("team/app", "1", b"layer")


def test_a_volume_of_another_user(place: Path) -> None:
    (place / "tree").mkdir(mode=0o755)
    assert said(place, USER) == (
        f"{PREFIX}{place}/tree belongs to 0:0 (root) and this user, {USER}:{USER}, has not the rights "
        f"there. Run as root: chown -R {USER}:{USER} {place}/tree"
    )


def test_a_root_of_ours_with_a_tree_of_another_user(place: Path) -> None:
    """As after a chown that was not recursive: without a look, the first push would tell."""
    fill(place / "tree")
    for below in ("", "/docker", "/docker/registry", "/docker/registry/v2"):
        os.chown(f"{place}/tree{below}", USER, USER)
    shutil.rmtree(place / "tree/docker/registry/v2/holdfast")
    line = said(place, USER)
    assert line.startswith(f"{PREFIX}{place}/tree/docker/registry/v2/blobs belongs to 0:0 (root)")
    assert line.endswith(f"chown -R {USER}:{USER} {place}/tree")


def test_what_it_says_helps(place: Path) -> None:
    fill(place / "tree")
    line = said(place, USER)
    command = line.rpartition("Run as root: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert "belongs to" not in said(place, USER, tls={"certificate": "/no", "key": "/no"})


def test_a_volume_that_is_mounted_read_only(place: Path) -> None:
    fill(place / "written")
    with mounted_readonly(place / "written", place / "tree"):
        line = said(place)
    assert line == (
        f"{PREFIX}{place}/tree is mounted read-only. Run as root: mount -o remount,rw {place}/tree (of a "
        "container: take :ro from its volume); or serve what is there with "
        "storage.maintenance.readonly.enabled: true."
    )


def test_a_volume_that_is_full(place: Path) -> None:
    with tmpfs(place / "tree", "100k"):
        with pytest.raises(OSError, match="No space"):
            (place / "tree" / "filler").write_bytes(bytes(200_000))
        line = said(place)
    assert line == (
        f"{PREFIX}the filesystem of {place}/tree is full. Run: df -h {place}/tree; then make room, or "
        "serve what is there with storage.maintenance.readonly.enabled: true meanwhile."
    )


def test_a_volume_that_is_nearly_full_is_served_with_a_warning(place: Path) -> None:
    with tmpfs(place / "tree", "20m"), holdfast(place, workers=1) as server:
        assert f"The filesystem of {place}/tree has 2" in server.output()
        assert "so pushes will fail" in server.output()


def test_a_root_that_is_a_file(place: Path) -> None:
    (place / "tree").touch()
    assert f"{place}/tree" in said(place)


def test_a_certificate_that_is_missing(place: Path) -> None:
    certificate, key = f"{place}/tls/tls.crt", f"{place}/tls/tls.key"
    assert said(place, tls={"certificate": certificate, "key": key}) == (
        f"The certificate {certificate} cannot be read: No such file or directory. Look with: ls -l "
        f"{place}/tls; put it there, or correct http.tls.certificate."
    )


def test_a_key_that_belongs_to_root(place: Path) -> None:
    (place / "tree").mkdir()
    os.chown(place / "tree", USER, USER)
    (place / "ca").mkdir()
    certificate, key = Authority(place / "ca").issue("registry", "localhost")
    key.chmod(0o600)
    assert said(place, USER, tls={"certificate": str(certificate), "key": str(key)}) == (
        f"The private key {key} cannot be read: Permission denied. Run as root: chown {USER}:{USER} {key} "
        f"(and let {USER}:{USER} enter its directory), or correct http.tls.key."
    )
