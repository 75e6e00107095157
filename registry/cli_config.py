"""What commands have in common: the configuration that they are told of, and how they end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from registry.config import Loaded, Settings
    from storage.driver import Driver

FILE = click.argument("config", required=False, type=click.Path(path_type=Path))


def load(config: Path | None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Warnings are on stderr by then. Exits with 2 if there are problems."""
    from registry.config import ConfigError
    from registry.config import load as load_file

    try:
        loaded = load_file(config, environ)
    except ConfigError as error:
        for warning in error.warnings:
            click.echo(f"{error.source}: warning: {warning}", err=True)
        for problem in error.problems:
            click.echo(f"{error.source}: {problem}", err=True)
        sys.exit(2)
    for warning in loaded.warnings:
        click.echo(f"{loaded.source}: warning: {warning}", err=True)
    return loaded


def load_settings(config: Path | None) -> Settings:
    return load(config).settings


@contextlib.contextmanager
def storage(
    settings: Settings, *, readonly: bool = False, existing: bool = False
) -> Iterator[Driver]:
    """As make_driver(); what the storage cannot do ends the command with a line."""
    from registry.drivers import make_driver
    from registry.remedies import explained
    from storage.driver_errors import DriverError

    try:
        driver = make_driver(settings, readonly=readonly, existing=existing)
        yield driver
        driver.close()
    except DriverError as error:
        stop(explained(error, settings))


def stop(sentence: str, code: int = 1) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(code)
