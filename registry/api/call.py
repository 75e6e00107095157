"""One request to the API on its way through: what it is about, and what a handler needs to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from auth.model import Authorizer, Identity
from registry.access import RULES
from registry.errors import MethodNotAllowed, UnsupportedEncoding
from registry.forwarded import Links
from registry.parsing import Query, Target
from registry.redirects import Redirects
from registry.streaming import Body, Threads, Uploading
from registry.upload_tokens import UploadTokens
from storage.driver import WouldBlock
from storage.model.reference import RepositoryName
from storage.repository import Repository, Store

R = TypeVar("R")


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
