"""From the configuration and a command's options to a run of the collector, and to how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import click
from registry_gc.check_store import check_store, require_checked
from registry_gc.collect import collect
from registry_gc.options import Options
from registry_gc.outcome import Braked, Busy, CollectionStopped, OutOfTime
from registry_gc.report import Report, prometheus, sentences

from registry.config import Settings
from registry.progress import ProgressLine
from storage.collection.clock import Clock
from storage.collection.publication import Unreadable
from storage.driver import Driver
from storage.driver_errors import DriverError, NoSpace
from storage.drivers.observed import ObservedDriver
from storage.model.digest import Digest

DONE: Final = 0
FAILED: Final = 1
BRAKED: Final = 3
BUSY: Final = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""
INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM

WAIT: Final = 10.0


class Terminated(KeyboardInterrupt):
    """Somebody who is not at the keyboard wants this process to end."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    dry_run: bool = False
    offline: bool = False
    now: bool = False
    delete_untagged: bool = False
    force: bool = False
    wait: bool = False
    quiet: bool = False
    minimum_age: float | None = None
    max_duration: float | None = None
    ignore: tuple[Digest, ...] = ()
    as_json: bool = False
    textfile: Path | None = None


def run(settings: Settings, driver: Driver, wanted: Wanted) -> int:
    """The exit code. What a person must read is on stderr, the result on stdout."""
    report = Report()
    calls = 0

    def counted(_operation: str, _result: str, _seconds: float) -> None:
        nonlocal calls  # threads may lose one or two
        calls += 1

    driver = ObservedDriver(driver, counted)
    code = FAILED
    progress = ProgressLine(show=not wanted.quiet and sys.stderr.isatty())
    try:
        with _terminable():
            _collect(driver, make_options(settings, wanted, progress), report, wait=wanted.wait)
        code = DONE
    except KeyboardInterrupt as error:
        report.stopped = "Interrupted. Nothing is lost, and the next run goes on."
        code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except CollectionStopped as error:
        report.stopped = str(error)
        code = {Braked: BRAKED, Busy: BUSY, OutOfTime: DONE}.get(type(error), FAILED)
    except Unreadable as error:
        report.stopped = (
            f"A newer version of the collector was here: {error}. Nothing was done; use that version, "
            "or a newer one."
        )
    except NoSpace as error:
        report.stopped = (
            f"The storage is full, and a run needs a few megabytes for its own: {_one_line(error)}. "
            "Nothing is lost. Make that much room, or try --now, which first of all empties the trash."
        )
    except DriverError as error:
        report.stopped = f"The storage failed: {_one_line(error)}. Nothing is lost; run again."
    finally:
        progress.clear()
    report.requests = calls
    if report.stopped:
        click.echo(report.stopped, err=True)
    if wanted.as_json:
        click.echo(json.dumps({**report.as_json(), "exit_code": code}, indent=2))
    elif not wanted.quiet and code != BUSY:
        for line in sentences(report):
            click.echo(line)
    if wanted.textfile is not None and code != BUSY:  # what is there tells of a run that was one
        _write_textfile(wanted.textfile, prometheus(report, finished=time.time(), exit_code=code))
    return code


def check(driver: Driver) -> int:
    try:
        check_store(driver, Clock())
    except (CollectionStopped, DriverError) as error:
        click.echo(_one_line(error), err=True)
        return FAILED
    click.echo("Garbage can be collected on this storage while images are pushed.")
    return DONE


def _collect(driver: Driver, options: Options, report: Report, *, wait: bool) -> None:
    if not (options.dry_run or options.offline):
        require_checked(driver, options.clock)
    while True:
        try:
            collect(driver, options, report)
        except Busy:
            if not wait:
                raise
            time.sleep(WAIT)
            continue
        return


def make_options(
    settings: Settings,
    wanted: Wanted,
    progress: Callable[[str, int, float | None], None] = lambda _stage, _count, _part: None,
) -> Options:
    gc = settings.gc
    at_once = wanted.offline or wanted.now
    age = wanted.minimum_age
    if age is None:
        age = 0.0 if wanted.offline else gc.minimumage
    return Options(
        minimum_age=age,
        undo=gc.undo,
        untagged=0.0 if wanted.delete_untagged else settings.retention.untagged,
        retention=settings.retention.build(),
        uploads=gc.uploads,
        trash=0.0 if at_once else gc.trash,
        ignore=frozenset(wanted.ignore),
        share=gc.share / 100,
        force=wanted.force,
        dry_run=wanted.dry_run,
        offline=wanted.offline,
        again=wanted.now,
        max_duration=float("inf") if wanted.max_duration is None else wanted.max_duration,
        threads=gc.threads,
        timing=gc.timing.build(),
        progress=progress,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as an interrupt does: it leaves word for the next one."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_textfile(path: Path, text: str) -> None:
    """Atomically: node_exporter reads it at any moment."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        click.echo(f"The metrics were not written to {path}: {error.strerror}.", err=True)
