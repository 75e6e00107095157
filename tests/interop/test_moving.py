"""A tree that Distribution wrote: looked at without a byte written, and copied elsewhere and back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from storage.drivers.filesystem import FilesystemDriver
from tests.interop.test_one_tree import Starters, seen_by, starters, write  # noqa: F401 - a fixture
from tests.registry.copying import Place, configured, copy, in_bucket, on_disk
from tests.registry.test_preview import every_file
from tests.support.api import api
from tests.support.clients import Skopeo
from tests.support.s3 import S3Store
from tests.support.servers import distribution
from tests.support.tree import check_tree

pytestmark = pytest.mark.engine("docker-registry")


def test_a_tree_of_distribution_moves_to_a_bucket_and_back(
    starters: Starters,  # noqa: F811
    peer: str,
    skopeo: Skopeo,
    rgw: S3Store,
    work: Path,
) -> None:
    with starters.peer(work) as server, api(server.url) as http:
        written = write(http, skopeo, server.address, work)
        served = seen_by(http, written)
    written_tree = every_file(work / "tree")

    source = _unprepared(work, "tree")
    looked = subprocess.run(
        [
            *(sys.executable, "-m", "registry.cli", "serve", "--dry-run"),
            *("--insecure-anonymous", str(source.config)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "0 problems" in looked.stdout
    assert re.search(r"^warning  uploads: [12] uploads are in progress", looked.stdout, re.M)
    assert every_file(work / "tree") == written_tree

    back = work / "back"
    back.mkdir()
    with in_bucket(rgw, work, "bucket") as bucket:
        there = copy(source, bucket)
        assert there.exit_code == 0, there.output
        assert every_file(work / "tree") == written_tree
        assert bucket.findings() == []
        again = copy(bucket, on_disk(back, "tree"))
        assert again.exit_code == 0, again.output
    assert check_tree(back / "tree") == []
    with distribution(back, peer) as server, api(server.url) as http:
        assert seen_by(http, written) == served
    with starters.holdfast(back) as server, api(server.url) as http:
        assert seen_by(http, written) == served


def _unprepared(directory: Path, name: str) -> Place:
    """As a configuration alone names it: not even a directory of ours is made."""
    root = directory / name
    storage = {"filesystem": {"rootdirectory": str(root)}}
    return Place(configured(directory / "source.yml", storage), FilesystemDriver(root), root)
