"""The whole configuration: every section, under Distribution's names."""

from __future__ import annotations

from pydantic import Field

from registry.config.auth import Auth
from registry.config.collector import Gc
from registry.config.http import Http
from registry.config.inert import (
    Compatibility,
    Middleware,
    Notifications,
    Policy,
    Proxy,
    Redis,
    Reporting,
)
from registry.config.retention import Retention
from registry.config.section import Section
from registry.config.service import Catalog, Health, Level, Log, Tags, Uploads, Validation
from registry.config.storage import Filesystem, Storage
from registry.config.tracing import Tracing
from registry.config.values import Text


class Settings(Section):
    """Defaults are Distribution's for a file that says nothing."""

    version: Text = "0.1"
    log: Log = Field(default_factory=Log)
    loglevel: Level | None = None
    storage: Storage = Field(default_factory=lambda: Storage(filesystem=Filesystem()))
    auth: Auth | None = None
    http: Http = Field(default_factory=Http)
    health: Health = Field(default_factory=Health)
    catalog: Catalog = Field(default_factory=Catalog)
    tags: Tags = Field(default_factory=Tags)
    validation: Validation = Field(default_factory=Validation)
    uploads: Uploads = Field(default_factory=Uploads)
    gc: Gc = Field(default_factory=Gc)
    retention: Retention = Field(default_factory=Retention)
    tracing: Tracing = Field(default_factory=Tracing)
    notifications: Notifications | None = None
    proxy: Proxy | None = None
    redis: Redis | None = None
    middleware: dict[str, list[Middleware]] = Field(default_factory=dict)
    policy: Policy | None = None
    reporting: Reporting | None = None
    compatibility: Compatibility | None = None
