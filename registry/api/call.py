"""One request to the API on its way through: what it is about, and what a handler needs to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from auth.model import Authorizer, Identity
from registry.acceleration import Acceleration
from registry.access import RULES
from registry.errors import MethodNotAllowed, UnsupportedEncoding
from registry.forwarded import Links
from registry.last_pulls import LastPulls
from registry.parsing import Query, Target
from registry.redirects import Redirects
from registry.streaming import Body, Threads, Uploading
from registry.upload_tokens import UploadTokens
from storage.collection.entries import Entry
from storage.driver_errors import WouldBlock
from storage.model.errors import Doomed
from storage.model.reference import RepositoryName
from storage.repository import Repository, Store

P = ParamSpec("P")
R = TypeVar("R")

DOOM_PATIENCE = 50.0
"""Seconds; clients and balancers commonly give up after 60."""
DOOM_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows and limits."""

    delete: bool = True
    readonly: bool = False
    catalog_limit: int = 1000
    tags_limit: int = 1000
    minimum_chunk: int = 0
    """Bytes; announced as OCI-Chunk-Min-Length if not 0."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all requests of a worker share."""

    store: Store
    threads: Threads
    uploading: Uploading
    tokens: UploadTokens
    links: Links
    authorizer: Authorizer
    policy: Policy = field(default_factory=Policy)
    redirects: Redirects = field(default_factory=Redirects)
    acceleration: Acceleration | None = None
    """Where nginx may be told of files."""
    pulls: LastPulls | None = None
    """Where retention asks for last pulls."""
    audited: Callable[[str], None] = lambda _: None
    """Counts the lines of the audit, by the name of the event."""


@dataclass(frozen=True, slots=True)
class Call:
    services: Services
    request: Request
    target: Target
    query: Query
    identity: Identity

    @property
    def repository(self) -> Repository:
        return self.services.store.repository(self.target.name)

    @property
    def threads(self) -> Threads:
        return self.services.threads

    async def look_up(
        self,
        look: Callable[[Repository], R],
        drop: Callable[[R], None] = lambda _: None,
        *,
        surely: bool = False,
    ) -> R:
        """A look-up: at once if the answer is in memory, else in a thread (see `Threads.look_up`).

        `surely` asks the storage itself where the memory may be out of date (see `Staleness`).
        """
        store = self.services.store
        if surely and store.driver.remote:
            return await self.threads.look_up(partial(look, self.repository), drop)
        repository = store.immediately(self.target.name)
        if repository is not None:
            try:
                return look(repository)
            except WouldBlock:
                pass
        return await self.threads.look_up(partial(look, store.lookups(self.target.name)), drop)

    async def is_going(self, *entries: Entry) -> bool:
        """Whether one of them is being removed, for a client that asks if it must push it.

        The questions of pulls that look the same cost nothing while nothing is removed.
        """
        guard = self.services.store.guard
        if self.services.policy.readonly or not any(map(guard.may_be_going, entries)):
            return False
        return await self.threads.look_up(lambda: True in [*map(guard.is_going, entries)])

    async def run_undoomed(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the operation, again and again while content that it relies on is being removed.

        Raises Doomed if that lasts for too long.
        """
        patience = monotonic() + DOOM_PATIENCE
        while True:
            try:
                return await self.threads.run(operation, *args, **kwargs)
            except Doomed:
                if monotonic() > patience:
                    raise
            await asyncio.sleep(DOOM_INTERVAL)

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    def body(self) -> Body:
        """Reading from it lets the client send: nothing may be left to refuse by then."""
        body: Body = self.request.scope["extensions"]["holdfast.body"]
        return body

    def location(self, path: str) -> str:
        """An absolute or relative URL of a path below /v2/, as the configuration wants it."""
        return self.services.links.location(self.request.scope, f"/v2/{path}")

    def blob_location(self, name: RepositoryName, digest: object) -> str:
        return self.location(f"{name}/blobs/{digest}")

    def refuse_encoded_body(self) -> None:
        """Raises UnsupportedEncoding: content is stored as it is named, and never unpacked."""
        encoding = self.header("content-encoding")
        if encoding not in {None, "", "identity"}:
            raise UnsupportedEncoding(
                "The registry stores a body as it comes and does not unpack it. Send it without "
                "Content-Encoding."
            )

    def require_deletes(self) -> None:
        """Raises MethodNotAllowed where the operator keeps everything."""
        if not self.services.policy.delete:
            raise MethodNotAllowed(
                "Deleting is switched off in this registry. Its operator can allow it with "
                "storage.delete.enabled: true.",
                RULES[self.target.kind].keys() - {"DELETE"},
            )


Handler = Callable[[Call], Awaitable[Response]]
Handlers = Mapping[str, Handler]
