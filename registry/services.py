"""What the endpoints work with, made of the configuration: store, access rules, limits and links."""

from __future__ import annotations

import re
from collections.abc import Sequence

from auth.audit import Audit
from auth.model import Authorizer
from registry.acceleration import Acceleration
from registry.api.call import Policy, Services
from registry.authentication import Authentication, authentication
from registry.config import Settings
from registry.forwarded import Links
from registry.last_pulls import LastPulls
from registry.redirects import Redirects
from registry.revocations import StoredRevocations
from registry.streaming import Threads, Uploading
from registry.telemetry.metrics import Metrics
from registry.upload_tokens import UploadTokens
from storage.collection.guard import Guard
from storage.driver import Driver
from storage.remembered import Staleness
from storage.repository import Store
from storage.requirements import Requirements


def services_of(
    settings: Settings,
    key: bytes,
    driver: Driver,
    threads: Threads,
    metrics: Metrics,
    authorizer: Authorizer,
    pulls: LastPulls | None,
) -> Services:
    store = Store(
        driver,
        requirements_of(settings),
        lambda hit: metrics.cache_request("manifest", hit=hit),
        Staleness(tags=settings.storage.cache.tagttl, lag=settings.gc.timing.lag),
        Guard(driver, settings.gc.timing.build()),
    )
    return Services(
        store=store,
        threads=threads,
        uploading=Uploading(threads, metrics.uploads_open.inc),
        tokens=UploadTokens(key),
        links=links_of(settings),
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


def authentication_of(settings: Settings, driver: Driver, audit: Audit) -> Authentication:
    prefix = links_of(settings).prefix
    return authentication(settings.auth, StoredRevocations(driver), audit, prefix=prefix)


def links_of(settings: Settings) -> Links:
    return Links(settings.http.host, settings.http.relativeurls, settings.http.prefix)


def requirements_of(settings: Settings) -> Requirements:
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
