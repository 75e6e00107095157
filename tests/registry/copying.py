"""Storages to copy between, and what a copy of one must be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from registry_gc.fsck.examine import Examination
from registry_gc.fsck.findings import Finding

from registry.cli import main
from storage import layout
from storage.driver import Driver
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from storage.model.reference import RepositoryName
from storage.repository import Store
from tests.gc.shop import Shop
from tests.support.s3 import S3Store

LEFT_BEHIND = tuple(
    f"{layout.ROOT}/{path}"
    for path in ("gc/", "holdfast/secret", "holdfast/catalog", "holdfast/scrubbed", "holdfast/tmp")
)


@dataclass(frozen=True, slots=True)
class Place:
    """A storage with the configuration that leads to it."""

    config: Path
    driver: Driver
    root: Path | None = None

    @property
    def shop(self) -> Shop:
        """A node of a registry there that remembers nothing."""
        return Shop(self.driver)

    def objects(self) -> dict[str, tuple[int, float]]:
        return {info.key: (info.size, info.modified) for info in self.driver.walk(layout.ROOT)}

    def served(self) -> dict[str, Any]:
        """All that a client can ask for, with the bytes of everything."""
        store, found = Store(self.driver), {}
        for name in store.catalog.walk():
            repository = store.repository(name)
            tags = {
                str(tag): str(repository.tags.current(tag)) for tag in repository.tags.list()[0]
            }
            manifests = {}
            for digest in _revisions(self.driver, name):
                manifests[str(digest)] = repository.manifests.get(digest).content
            found[str(name)] = {"tags": tags, "manifests": manifests}
        return found

    def findings(self) -> list[Finding]:
        """What leads to nothing here. The history of a tag that is about to be set promises nothing."""
        found: list[Finding] = []
        Examination(self.driver, None, found.append).run()
        return [each for each in found if "names nothing" not in each.sentence]


def _revisions(driver: Driver, name: RepositoryName) -> list[Any]:
    from storage.referrers import revisions

    return [*revisions(driver, name)]


def configured(path: Path, storage: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"version": "0.1", "storage": storage}))
    return path


def on_disk(directory: Path, name: str) -> Place:
    root = directory / name
    driver = FilesystemDriver(root)
    driver.prepare()
    storage = {"filesystem": {"rootdirectory": str(root)}}
    return Place(configured(directory / f"{name}.yml", storage), driver, root)


@contextmanager
def in_bucket(store: S3Store, directory: Path, name: str) -> Iterator[Place]:
    with store.fresh() as bucket:
        driver = S3Driver(S3Settings(**store.parameters(bucket)))
        config = configured(directory / f"{name}.yml", {"s3": store.parameters(bucket)})
        yield Place(config, driver)
        driver.close()


def copy(source: Place, target: Place, *options: str) -> Result:
    """In this process."""
    arguments = ["copy-storage", str(source.config), str(target.config), *options]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def start(source: Place, target: Place, *options: str) -> subprocess.Popen[str]:
    """As a process of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "registry.cli", "copy-storage"),
            *(str(source.config), str(target.config), *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")},
    )


def reported(result: Result) -> dict[str, Any]:
    """Of --output json."""
    value: dict[str, Any] = json.loads(result.stdout)
    return value
