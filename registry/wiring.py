"""The composition root: from the configuration to a running registry.

What is checked here, before a worker starts, fails at once and with a sentence: a storage that cannot be
written is found now, not at the first push.
"""

from __future__ import annotations

import os
import sys

from registry.audit import audit
from registry.authentication import CannotAuthenticate
from registry.config import Loaded
from registry.drivers import make_driver
from registry.listener import server_settings, tls_settings, workers_of
from registry.remedies import explained, foreign, little_room
from registry.server.tls import CannotSecure, context
from registry.server.workers import serve as serve_workers
from registry.services import authentication_of
from registry.telemetry import leftovers, logs
from registry.telemetry import metrics as telemetry
from registry.tracing.plan import CannotTrace, plan
from registry.worker import Worker
from storage import secret
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.model.errors import RegistryError


def serve(loaded: Loaded) -> int:
    """Run the registry until it is told to stop; the exit code."""
    settings = loaded.settings
    logs.configure(
        level=settings.loglevel or settings.log.level,
        formatter=settings.log.formatter,
        fields=settings.log.fields,
    )
    log = logs.get_logger("holdfast")
    directory = telemetry.prepare(None)
    leftovers.claim(directory)
    try:
        readonly = settings.storage.maintenance.readonly.enabled
        driver = make_driver(settings, readonly=readonly)
        if why := foreign(settings):
            print(why, file=sys.stderr)  # noqa: T201
            return 1
        key = settings.http.secret.encode() or _kept_secret(driver, readonly)
        workers = workers_of(settings)
        traced = plan(settings.tracing, os.environ)
        authentication_of(settings, driver, audit)  # what is wrong with it is to be said now
        if tls := tls_settings(settings):
            context(tls)  # as above
        if warning := little_room(settings):
            log.warning(warning)
        log.info(
            "starting",
            source=loaded.source,
            storage=settings.storage.driver,
            addr=settings.http.addr,
            workers=workers,
        )
        return serve_workers(
            server_settings(settings, workers),
            lambda lifecycle: Worker(settings, driver, key, lifecycle, traced).app(),
            worker_died=telemetry.worker_died,
        )
    except (DriverError, RegistryError) as error:
        print(explained(error, settings), file=sys.stderr)  # noqa: T201
        return 1
    except (CannotAuthenticate, CannotTrace) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except CannotSecure as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    finally:
        telemetry.cleanup(directory)


def _kept_secret(driver: Driver, readonly: bool) -> bytes:
    """A registry that is read-only takes no uploads, so where it finds none any will do."""
    if readonly:
        return secret.load(driver) or os.urandom(secret.LENGTH)
    return secret.load_or_create(driver)
