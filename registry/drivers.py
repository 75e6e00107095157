"""From the section `storage` to a driver that works.

A driver is tried before it is handed out, so that a bucket that is missing, or may not be written, is a
sentence at the start and not a failed push.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from registry.config import Settings
from storage.driver import Driver
from storage.driver_errors import Unavailable
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from storage.drivers.s3.settings import S3Settings
from storage.readable import check_readable


def make_driver(settings: Settings, *, readonly: bool = False, existing: bool = False) -> Driver:
    """Raises DriverError, its text for the operator. Workers may be forked from who calls it.

    With `readonly` it is only read, now and by who asked for it. With either there must be a registry's
    tree already: none is begun where somebody has mistaken the place.
    """
    parameters = s3_settings(settings)
    if parameters is not None:
        return _s3(parameters, readonly=readonly, existing=existing)
    filesystem = settings.storage.filesystem
    if filesystem is None:
        return MemoryDriver()
    driver = FilesystemDriver(filesystem.rootdirectory)
    if readonly or existing:
        driver.prepare(readonly=True)
        check_readable(driver)
    if not readonly:
        driver.prepare()
    return driver


def look_at(settings: Settings) -> Driver:
    """A driver to read with, also where there is no tree yet. Writes nothing.

    Raises DriverError, also for a directory that is not there; what else may not be read is found when
    it is read.
    """
    parameters = s3_settings(settings)
    if parameters is not None:
        from storage.drivers.s3.driver import S3Driver  # as below

        try:
            return S3Driver(parameters)
        except ValueError as error:
            raise Unavailable(str(error)) from None
    filesystem = settings.storage.filesystem
    if filesystem is None:
        return MemoryDriver()
    driver = FilesystemDriver(filesystem.rootdirectory)
    driver.prepare(readonly=True)
    return driver


def s3_settings(settings: Settings) -> S3Settings | None:
    """None where the storage is another. Raises Unavailable, its text for the operator."""
    section = settings.storage.bucket
    if section is None:
        return None
    parameters = section.model_dump(exclude={"v4auth", "loglevel", "cabundle"})
    try:
        return S3Settings(**parameters, cabundle=_authorities(section.cabundle))
    except ValueError as error:
        raise Unavailable(str(error)) from None


def _s3(parameters: S3Settings, *, readonly: bool, existing: bool) -> Driver:
    # boto3 takes half a second to import, and few registries need it.
    from storage.drivers.s3.driver import S3Driver

    try:
        driver = S3Driver(parameters)
        if readonly or existing:
            check_readable(driver)
        if not readonly:
            driver.check()
    except ValueError as error:
        raise Unavailable(str(error)) from None
    return driver


def _authorities(cabundle: Path | None) -> str:
    """The file's path; "" for those that the machine trusts."""
    if cabundle is None:
        return ""
    try:
        ssl.create_default_context(cafile=cabundle)
    except OSError as error:  # as which ssl.SSLError counts
        raise Unavailable(
            f"storage.s3.cabundle, {cabundle}, is no PEM file of certificates: {error.strerror}"
        ) from None
    return str(cabundle)
