"""`registry copy-storage`: a registry's tree from one storage into another, while the registry runs.

Exit codes: 0 all that the source serves is at the target; 1 something could not be copied, and is named;
2 the command line or a configuration is wrong; 130 interrupted. After 1 and 130 the same command goes on.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry.cli_config import load, stop

if TYPE_CHECKING:
    from registry.config import Settings
    from registry.copying.progress import Progress
    from storage.driver import Driver

_PATH = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("copy-storage")
@click.argument("source", metavar="FROM", type=_PATH)
@click.argument("target", metavar="TO", type=_PATH)
@click.option("-d", "--dry-run", is_flag=True, help="Say what would be copied; write nothing.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 128),
    default=8,
    show_default=True,
    help="Objects copied at once.",
)
@click.option(
    "--verify", is_flag=True, help="Also read every copied blob back from the target, and hash it."
)
@click.option(
    "--delete", is_flag=True, help="Remove tags and manifests at the target that FROM has not."
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Set tags to what FROM says also where somebody pushed them at the target.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if all is well.")
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", help="How to report."
)
def copy_storage(
    source: Path,
    target: Path,
    dry_run: bool,
    jobs: int,
    verify: bool,
    delete: bool,
    overwrite: bool,
    quiet: bool,
    output: str,
) -> None:
    """Copy all images of the configuration FROM into the storage of the configuration TO.

    FROM is only read, and its registry may go on. What is at the target already and whole is not copied
    again, so the same command goes on after whatever stopped it, and once more catches up with what was
    pushed since. Variables called REGISTRY_... would be meant for both and are not read.
    """
    from registry.copying.crew import GivenUp
    from registry.copying.report import sentences
    from registry.copying.run import Wanted, copy
    from storage.driver_errors import DriverError

    environ = {name: text for name, text in os.environ.items() if not name.startswith("REGISTRY_")}
    there, here = load(source, environ).settings, load(target, environ).settings
    _require_two(there, here)
    wanted = Wanted(jobs, dry_run, overwrite, delete, verify)
    reading = _source(there, source)
    writing = _target(here, target, dry_run=dry_run)
    try:
        if not dry_run:
            _require_apart(reading, writing)
        with _progress(quiet) as progress:
            timing = here.gc.timing.build()
            report = copy(reading, writing, wanted, progress, timing, lambda: _room(here))
        writing.close()
        reading.close()
    except DriverError as error:
        stop(f"The storage cannot be used: {' '.join(str(error).split())}")
    except GivenUp as error:
        stop(str(error))
    if output == "json":
        click.echo(json.dumps(report.as_json()))
    elif not quiet or report.problems.count:
        for line in sentences(report, removes=delete):
            click.echo(line)
    sys.exit(1 if report.problems.count else 0)


def _source(settings: Settings, path: Path) -> Driver:
    from registry.copying.run import has_tree
    from registry.drivers import look_at
    from registry.remedies import explained
    from storage.driver_errors import DriverError

    try:
        driver = look_at(settings)
        if not has_tree(driver):
            stop(
                f"{path}: nothing was ever pushed to that storage; look at rootdirectory or bucket.",
                2,
            )
        return driver
    except DriverError as error:
        stop(f"{path}: {explained(error, settings)}")


def _target(settings: Settings, path: Path, *, dry_run: bool) -> Driver:
    from registry.drivers import look_at, make_driver
    from registry.remedies import explained
    from storage.driver_errors import DriverError
    from storage.drivers.memory import MemoryDriver

    filesystem = settings.storage.filesystem
    try:
        if not dry_run:
            return make_driver(settings)
        if filesystem is not None and not os.path.exists(filesystem.rootdirectory):
            return MemoryDriver()  # as empty as what is not there yet
        return look_at(settings)
    except DriverError as error:
        stop(f"{path}: {explained(error, settings)}")


def _require_two(there: Settings, here: Settings) -> None:
    for name, settings in (("FROM", there), ("TO", here)):
        if settings.storage.driver == "inmemory":
            stop(f"{name} is in the memory of one process: nobody else can copy it.", 2)
    if _place(there) == _place(here):
        stop("FROM and TO are the same storage; name another one in TO.", 2)


def _place(settings: Settings) -> tuple[str, ...]:
    bucket, filesystem = settings.storage.bucket, settings.storage.filesystem
    if bucket is not None:
        root = bucket.rootdirectory.strip("/")
        return (bucket.regionendpoint.rstrip("/"), bucket.bucket, root)
    return ("" if filesystem is None else os.path.realpath(filesystem.rootdirectory),)


def _require_apart(reading: Driver, writing: Driver) -> None:
    """Two names may be one storage: what is written to the one must not be seen through the other."""
    from storage import layout
    from storage.driver_errors import ObjectNotFound

    probe = f"{layout.COPYING}/probe-{secrets.token_hex(8)}"
    writing.write(probe, b"")
    try:
        reading.stat(probe)
    except ObjectNotFound:
        return
    finally:
        writing.delete_many([probe])
    stop("FROM and TO are the same storage under two names; name another one in TO.", 2)


def _progress(quiet: bool) -> Progress:
    from rich.console import Console

    from registry.copying.progress import Bar, Lines

    console = Console(stderr=True)
    if console.is_terminal and not quiet:
        return Bar(console)
    return Lines(lambda line: None if quiet else click.echo(line, err=True))


def _room(settings: Settings) -> int | None:
    """Bytes that the target has free, where that can be asked."""
    filesystem = settings.storage.filesystem
    if filesystem is None:
        return None
    status = os.statvfs(filesystem.rootdirectory)
    return status.f_bavail * status.f_frsize
