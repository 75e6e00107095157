"""One worker of the server: the application, and what goes on beside it for as long as it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from registry.api.health import health_routes
from registry.api.token import token_routes
from registry.app import create_app
from registry.asking import asking_of
from registry.audit import audit
from registry.authentication import Authentication
from registry.config import Settings
from registry.config.auth import JWKS_PATH, TOKEN_PATH
from registry.forwarded import Links, TrustedProxies
from registry.last_pulls import LastPulls
from registry.maintenance import Purging, keep_catalog, purge_uploads
from registry.middleware import Observe
from registry.readiness import READS, WORKS, StorageProbe
from registry.server.lifecycle import Lifecycle
from registry.services import authentication_of, services_of
from registry.streaming import Threads
from registry.telemetry import metrics as telemetry
from registry.tracing.plan import Plan
from registry.unserved import observer
from storage.driver import Driver
from storage.drivers.observed import ObservedDriver
from storage.readable import check_readable
from storage.repository import Store

if TYPE_CHECKING:
    from registry.tracing.spans import Tracing

DEFAULT_THREADS = 32


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker's objects; made after the fork, because threads do not survive one."""

    settings: Settings
    bare_driver: Driver
    secret: bytes
    lifecycle: Lifecycle
    traced: Plan | None = None

    def app(self) -> ASGIApp:
        settings = self.settings
        metrics = telemetry.metrics()
        threads = Threads(_threads(settings), settings.http.limits.storagetimeout)
        tracing = _tracing(self.traced)
        record = metrics.driver_recorder(self.bare_driver.name)
        if tracing is not None:
            record = tracing.recorder(self.bare_driver.name, record)
        driver = ObservedDriver(self.bare_driver, threads.hearing(record))
        check = settings.health.storagedriver
        readonly = settings.storage.maintenance.readonly.enabled
        works = partial(check_readable, self.bare_driver) if readonly else self.bare_driver.check
        probe = StorageProbe(
            works if check.enabled else _trust,
            interval=check.interval,
            threshold=check.threshold,
            works=READS if readonly else WORKS,
        )
        made = authentication_of(settings, driver, partial(audit, count=metrics.audited))
        metrics.watch_access(made.problems)
        metrics.watch_certificate(lambda: self.lifecycle.tls_expiry)
        pulls = LastPulls(driver) if self._notes_pulls() else None
        services = services_of(
            settings, self.secret, driver, threads, metrics, made.authorizer, pulls
        )

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            del app
            probe.start()
            tasks = self._maintenance(services.store, threads)
            tasks.append(asyncio.create_task(made.keep_looking(), name="authentication"))
            if pulls is not None:
                tasks.append(asyncio.get_running_loop().create_task(pulls.keep_writing(threads)))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await probe.stop()
                if pulls is not None:
                    await threads.run(pulls.write)
                threads.close()
                self.bare_driver.close()
                if tracing is not None:
                    await tracing.stop()

        self.lifecycle.on_unserved = observer(
            metrics, access_log=not settings.log.accesslog.disabled
        )
        proxies = TrustedProxies(settings.http.trustedproxies, settings.http.hosts)
        app = create_app(
            services,
            prefix=settings.http.prefix,
            others=[
                *health_routes(
                    self.lifecycle,
                    probe,
                    metrics,
                    exhausted=lambda: threads.exhausted,
                    problems=made.problems,
                ),
                *self._token_routes(made, services.links),
            ],
            lifespan=lifespan,
        )
        return Observe(
            app if tracing is None else tracing.app(app),
            metrics=metrics,
            access_log=not settings.log.accesslog.disabled,
            headers=[
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, values in settings.http.headers.items()
                for value in values
            ],
            proxies=proxies,
        )

    def _token_routes(self, made: Authentication, links: Links) -> list[Route]:
        if made.tokens is None or made.keys is None:
            return []
        prefix = self.settings.http.prefix.rstrip("/")
        return token_routes(
            made.tokens,
            made.keys,
            lambda request: asking_of(request.scope, links),
            token_path=prefix + TOKEN_PATH,
            jwks_path=prefix + JWKS_PATH,
        )

    def _notes_pulls(self) -> bool:
        readonly = self.settings.storage.maintenance.readonly.enabled
        return self.settings.retention.build().needs_pulls and not readonly

    def _maintenance(self, store: Store, threads: Threads) -> list[asyncio.Task[None]]:
        """One worker of a node does it for all."""
        maintenance = self.settings.storage.maintenance
        purging = maintenance.uploadpurging
        if maintenance.readonly.enabled or self.lifecycle.worker != 0:
            return []
        work: list[Coroutine[Any, Any, None]] = []
        if purging.enabled:
            plan = Purging(purging.age, purging.interval, purging.dryrun)
            work.append(purge_uploads(store.driver, threads, plan))
        if store.catalog_index is not None:
            work.append(keep_catalog(store.catalog_index, threads))
        loop = asyncio.get_running_loop()
        return [loop.create_task(item) for item in work]


def _tracing(traced: Plan | None) -> Tracing | None:
    if traced is None:
        return None
    from registry.tracing.spans import Tracing  # an optional part, and not there for everybody

    return Tracing(traced)


def _trust() -> None:
    """The probe of an operator who does not want one."""


def _threads(settings: Settings) -> int:
    filesystem = settings.storage.filesystem
    return min(DEFAULT_THREADS, filesystem.maxthreads) if filesystem else DEFAULT_THREADS
