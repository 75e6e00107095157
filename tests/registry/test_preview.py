"""`registry serve --dry-run`: what a registry would see and do, without a byte written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from storage import layout
from storage.drivers.filesystem import FilesystemDriver
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from tests.faults.mounts import mounted_readonly
from tests.gc.shop import Shop
from tests.registry.copying import in_bucket
from tests.support.ceph import Gateway
from tests.support.otheruser import USER, registry

NAME = RepositoryName("team/app")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="preview-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def every_file(root: Path) -> dict[str, tuple[int, ...]]:
    """With sizes and all times but that of the last reading."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        found[str(path)] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return found


def look(
    place: Path, *, user: int | None = None, text: str = "", root: Path | None = None
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, of a process of its own."""
    config = place / "config.yml"
    settings = {"storage": {"filesystem": {"rootdirectory": str(root or place / "tree")}}}
    config.write_text(
        "version: 0.1\n" + yaml.safe_dump(settings) + "http: {addr: '127.0.0.1:5000'}\n" + text
    )
    done = registry("serve", "--dry-run", str(config), user=user)
    return done.returncode, done.stdout, done.stderr


def filled(root: Path) -> Shop:
    driver = FilesystemDriver(root)
    driver.prepare()
    shop = Shop(driver)
    shop.image("team/app", "1", b"layer")
    shop.index("team/app", "index", [shop.image("team/app", None, b"other")])
    return shop


def test_it_counts_and_writes_nothing(place: Path) -> None:
    filled(place / "tree")
    before = every_file(place / "tree")
    code, out, err = look(place)
    assert (code, err) == (0, ""), out
    assert "1 repositories with 2 tags and 3 manifests; 6 blobs" in out
    assert "2 of type application/vnd.oci.image.manifest.v1+json." in out
    assert "1 of type application/vnd.oci.image.index.v1+json." in out
    assert "Plain HTTP on 127.0.0.1:5000." in out
    assert out.endswith("0 problems, 0 warnings\n")
    assert every_file(place / "tree") == before


def test_it_needs_no_right_to_write(place: Path) -> None:
    filled(place / "tree")
    with mounted_readonly(place / "tree", place / "mounted"):
        code, out, _ = look(place, root=place / "mounted")
        assert code == 0, out
        assert "is mounted read-only here" in out
        code, out, _ = look(place, user=USER, root=place / "mounted")
    assert code == 1
    assert f"directories may not be written by {USER}:{USER}: {place}/mounted, " in out
    assert f"chown -R {USER}:{USER} {place}/mounted" in out
    assert "6 blobs" in out


def test_files_of_another_user_are_named_and_nothing_else_is_guessed(place: Path) -> None:
    shop = filled(place / "tree")
    hidden = place / "tree" / layout.blob(Digest.of(b"layer"))
    hidden.chmod(0o600)
    code, out, _ = look(place, user=USER)
    assert code == 1
    assert f"1 files and directories may not be read by {USER}:{USER}: {hidden}." in out
    assert "repositories with" not in out
    del shop


def test_what_is_wrong_with_the_tree(place: Path) -> None:
    shop = filled(place / "tree")
    shop.driver.write(layout.tag_current(NAME, Tag("ghost")), str(Digest.of(b"no")).encode())
    shop.driver.delete(layout.blob(Digest.of(b"layer")))
    old = json.dumps({"schemaVersion": 1, "name": "team/app", "fsLayers": [], "signatures": []})
    digest = Digest.of(old.encode())
    shop.driver.write(layout.blob(digest), old.encode())
    shop.driver.write(layout.revision(NAME, digest), str(digest).encode())
    uploads = shop.repository("team/app").uploads
    with uploads.resume(uploads.start("sha256")) as session:
        session.append([b"begun"])
    code, out, _ = look(place)
    assert code == 1
    for part in (
        "warning  ghost-tag: The tag team/app:ghost names ",
        "PROBLEM  blob-missing: The manifest team/app@",
        "warning  manifests: 1 of Docker's schema 1: ",
        "warning  uploads: 1 uploads are in progress",
    ):
        assert part in out, out


def test_what_is_wrong_with_the_configuration(place: Path) -> None:
    filled(place / "tree")
    text = (
        "redis: {addr: 'localhost:6379'}\n"
        f"auth: {{htpasswd: {{realm: r, path: {place}/users}}}}\n"
    )
    code, out, err = look(place, text=text)
    assert code == 0
    assert "redis: has no effect" in err
    assert "1 keys or values have no effect here" in out
    assert f"warning  auth.htpasswd.path: {place}/users is not there." in out
    (place / "users").touch(mode=0o600)
    code, out, _ = look(place, text=text, user=USER)
    assert code == 1
    assert f"auth.htpasswd.path: {place}/users may not be read by {USER}:{USER}." in out
    code, _, err = look(place, text="storag: [\n")
    assert code == 2
    assert err


def test_what_would_not_start(place: Path) -> None:
    filled(place / "tree")
    config = place / "open.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {place}/tree}}}}\n"
        "http: {tls: {certificate: /no.crt, key: /no.key}}\n"
    )
    done = registry("serve", "--dry-run", str(config))
    assert done.returncode == 1
    assert "PROBLEM  http.addr: http.addr is :5000 (every interface)" in done.stdout
    assert "PROBLEM  certificate: The certificate /no.crt cannot be read" in done.stdout


def test_an_empty_storage_and_none(place: Path) -> None:
    (place / "tree").mkdir()
    code, out, _ = look(place)
    assert code == 0
    assert "it would begin empty" in out
    assert os.listdir(place / "tree") == []
    (place / "tree").rmdir()
    code, out, _ = look(place)
    assert code == 1
    assert f"{place}/tree is no directory." in out


def test_a_bucket_that_may_only_be_read(gateway: Gateway, place: Path) -> None:
    with in_bucket(gateway.store, place, "bucket") as made:
        made.shop.image("team/app", "1", b"layer")
        before = made.objects()
        done = registry("serve", "--dry-run", "--insecure-anonymous", str(made.config))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 repositories with 1 tags and 1 manifests; 3 blobs" in done.stdout
        assert made.objects() == before
