"""The composition root: from the configuration to a running registry.

Nothing else constructs drivers, stores or authorizers. What is checked here, before a worker starts,
fails at once and with a sentence: a storage that cannot be written is found now, not at the first push.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from auth.audit import Audit
from auth.model import Authorizer
from registry.acceleration import Acceleration
from registry.api.call import Policy, Services
from registry.api.health import health_routes
from registry.api.token import token_routes
from registry.app import create_app
from registry.asking import asking_of
from registry.audit import audit
from registry.authentication import Authentication, CannotAuthenticate, authentication
from registry.config import Loaded, Settings, TcpEndpoint
from registry.config.auth import JWKS_PATH, TOKEN_PATH
from registry.drivers import make_driver
from registry.forwarded import Links, TrustedProxies
from registry.last_pulls import LastPulls
from registry.maintenance import Purging, keep_catalog, purge_uploads
from registry.middleware import Observe
from registry.readiness import READS, WORKS, StorageProbe
from registry.redirects import Redirects
from registry.remedies import explained, foreign, little_room
from registry.revocations import StoredRevocations
from registry.server.lifecycle import Lifecycle
from registry.server.settings import ServerSettings, TLSSettings
from registry.server.tls import CannotSecure, context
from registry.server.workers import serve as serve_workers
from registry.streaming import Threads, Uploading
from registry.telemetry import leftovers, logs
from registry.telemetry import metrics as telemetry
from registry.telemetry.metrics import Metrics
from registry.tracing.plan import CannotTrace, Plan, plan
from registry.unserved import observer
from registry.upload_tokens import UploadTokens
from storage import secret
from storage.collection.guard import Guard
from storage.driver import Driver, DriverError
from storage.drivers.observed import ObservedDriver
from storage.model.errors import RegistryError
from storage.readable import check_readable
from storage.remembered import Staleness
from storage.repository import Store
from storage.requirements import Requirements

if TYPE_CHECKING:
    from registry.tracing.spans import Tracing

CORES = os.cpu_count() or 1
DEFAULT_THREADS = 32


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
        workers = _workers(settings)
        traced = plan(settings.tracing, os.environ)
        _authentication(settings, driver, audit)  # what is wrong with it is to be said now
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
            _server_settings(settings, workers),
            lambda lifecycle: _Worker(settings, driver, key, lifecycle, traced).app(),
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


def _authentication(settings: Settings, driver: Driver, audit: Audit) -> Authentication:
    prefix = _links(settings).prefix
    return authentication(settings.auth, StoredRevocations(driver), audit, prefix=prefix)


def _links(settings: Settings) -> Links:
    return Links(settings.http.host, settings.http.relativeurls, settings.http.prefix)


def _workers(settings: Settings) -> int:
    """What is in memory is in one process only, so its workers cannot be several."""
    if settings.storage.driver == "inmemory":
        return 1
    return settings.http.workers or CORES


def tls_settings(settings: Settings) -> TLSSettings | None:
    """None for plain HTTP."""
    tls = settings.http.tls
    if tls.certificate is None or tls.key is None:
        return None
    return TLSSettings(
        certificate=str(tls.certificate),
        key=str(tls.key),
        minimumtls=tls.minimumtls,
        clientcas=tuple(map(str, tls.clientcas)),
        clientauth=tls.clientauth,
        ciphersuites=tuple(tls.ciphersuites),
        hsts=tls.hsts,
    )


def _server_settings(settings: Settings, workers: int) -> ServerSettings:
    http, limits = settings.http, settings.http.limits
    endpoint = http.endpoint
    return ServerSettings(
        addr=(endpoint.host, endpoint.port)
        if isinstance(endpoint, TcpEndpoint)
        else str(endpoint.path),
        workers=workers,
        tls=tls_settings(settings),
        proxyprotocol=tuple(http.trustedproxies) if http.proxyprotocol else None,
        draindelay=http.draindelay,
        draintimeout=http.draintimeout,
        header_timeout=limits.headertimeout,
        body_timeout=limits.bodytimeout,
        write_timeout=limits.writetimeout,
        keepalive_timeout=limits.keepalivetimeout,
        max_header_bytes=limits.headerbytes,
        max_headers=limits.headers,
    )


def _requirements(settings: Settings) -> Requirements:
    validation = settings.validation
    indexes = validation.manifests.indexes
    platforms: str | Sequence[tuple[str, str]] = indexes.platforms
    if platforms == "list":
        platforms = [(platform.os, platform.architecture) for platform in indexes.platformlist]
    return Requirements(
        enabled=validation.enabled or not validation.disabled,
        platforms=platforms,
        allowed_urls=[re.compile(rule) for rule in validation.manifests.urls.allow],
        denied_urls=[re.compile(rule) for rule in validation.manifests.urls.deny],
    )


@dataclass(frozen=True, slots=True)
class _Worker:
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
        made = _authentication(settings, driver, partial(audit, count=metrics.audited))
        metrics.watch_access(made.problems)
        pulls = LastPulls(driver) if self._notes_pulls() else None
        services = self._services(driver, threads, metrics, made.authorizer, pulls)

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

    def _services(
        self,
        driver: Driver,
        threads: Threads,
        metrics: Metrics,
        authorizer: Authorizer,
        pulls: LastPulls | None,
    ) -> Services:
        settings = self.settings
        store = Store(
            driver,
            _requirements(settings),
            lambda hit: metrics.cache_request("manifest", hit=hit),
            Staleness(tags=settings.storage.cache.tagttl),
            Guard(driver, settings.gc.timing.build()),
        )
        return Services(
            store=store,
            threads=threads,
            uploading=Uploading(threads, metrics.uploads_open.inc),
            tokens=UploadTokens(self.secret),
            links=_links(settings),
            authorizer=authorizer,
            policy=Policy(
                delete=settings.storage.delete.enabled,
                readonly=settings.storage.maintenance.readonly.enabled,
                catalog_limit=settings.catalog.maxentries,
                tags_limit=settings.tags.maxtags,
                minimum_chunk=settings.uploads.minchunk,
            ),
            redirects=Redirects(
                enabled=not settings.storage.redirect.disable,
                networks=[str(network) for network in settings.storage.redirect.disablefor],
                agents=settings.storage.redirect.disableforagents,
            ),
            acceleration=Acceleration(prefix) if (prefix := settings.http.accelredirect) else None,
            pulls=pulls,
            audited=metrics.audited,
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
