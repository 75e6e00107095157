"""The storage of a registry, from where it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from registry.config import Settings
from registry.drivers import make_driver, s3_settings
from storage import layout
from storage.driver_errors import DriverError
from storage.drivers import examining
from storage.examination import Observation, problem, warning, well


def examine_storage(settings: Settings) -> Iterator[Observation]:
    """The storage of a configuration, by trying what the registry does with it."""
    if settings.storage.maintenance.readonly.enabled:
        yield _only_read(settings)
        return
    filesystem = settings.storage.filesystem
    s3 = s3_settings(settings)
    if s3 is not None:
        from storage.drivers.s3 import examining as s3_examining  # boto3 takes half a second

        yield from s3_examining.examine(s3, layout.TEMPORARY)
    elif filesystem is not None:
        root = Path(filesystem.rootdirectory)
        yield from examining.examine(root, root / layout.TEMPORARY)
    else:
        yield warning(
            "storage",
            "It is in the memory of one process: a restart loses everything.",
            "Configure storage.filesystem or storage.s3.",
        )


def _only_read(settings: Settings) -> Observation:
    try:
        make_driver(settings, readonly=True).close()
    except DriverError as error:
        return problem(
            "storage",
            f"It cannot be read: {error}",
            "Mount it, or correct what the error names; nothing was written.",
        )
    return well("storage", "It can be read. The registry is read-only, so nothing else was tried.")
