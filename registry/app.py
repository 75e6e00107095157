"""The ASGI application: routes, the order of the checks, handlers of errors.

A request to the API goes parse -> does the resource have this method -> may the caller -> is the registry
read-only -> handler. Nothing is looked up, and no byte of the body is read, before the third is passed.
OPTIONS is answered after the first, from nothing but the table of methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from registry import access, audit
from registry.api import base, blobs, catalog, manifests, referrers, tags, uploads
from registry.api.call import Call, Handlers, Services
from registry.asking import asking_of
from registry.errors import (
    MethodNotAllowed,
    on_client_gone,
    on_http_exception,
    on_registry_error,
)
from registry.parsing import Kind, Query, Target, parse_target
from registry.streaming import ClientGone
from storage.model.errors import RegistryError

HANDLERS: Mapping[Kind, Handlers] = {
    Kind.BASE: base.HANDLERS,
    Kind.CATALOG: catalog.HANDLERS,
    Kind.TAGS: tags.HANDLERS,
    Kind.MANIFEST: manifests.HANDLERS,
    Kind.BLOB: blobs.HANDLERS,
    Kind.UPLOADS: uploads.HANDLERS_START,
    Kind.UPLOAD: uploads.HANDLERS,
    Kind.REFERRERS: referrers.HANDLERS,
}


class Api:
    """Everything below `/v2`, told apart by the raw path and not by patterns."""

    def __init__(self, services: Services, prefix: str = "") -> None:
        self._services = services
        self._root = f"{prefix.rstrip('/')}/v2".encode("ascii")
        # The same few paths come with most requests, and a target is only a value.
        self._target = lru_cache(maxsize=1024)(parse_target)

    def owns(self, path: bytes) -> bool:
        root = self._root
        return path.startswith(root) and path[len(root) : len(root) + 1] in {b"", b"/"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except RegistryError as error:
            response = await on_registry_error(request, error)
        except ClientGone as error:
            response = await on_client_gone(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        scope, method, record = request.scope, request.method, request.scope["holdfast"]
        target = self._target(scope["raw_path"][len(self._root) :])
        record.route = target.kind.value
        if target.named:
            record.repository = str(target.name)
        if method == "OPTIONS":
            return _options(target)
        asking = asking_of(scope, self._services.links)
        identity = await access.authorize(self._services.authorizer, asking, target, method)
        record.user = identity.name
        if self._services.policy.readonly and method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(
                "The registry is read-only for maintenance: pulls work, pushes and deletes do not.",
                {"GET", "HEAD"} & access.RULES[target.kind].keys(),
            )
        query = Query(scope["query_string"])
        call = Call(self._services, request, target, query, identity)
        response = await HANDLERS[target.kind][method](call)
        if method not in {"GET", "HEAD"}:
            audit.done(call, response)
        return response


def _options(target: Target) -> Response:
    """What a resource of this kind takes, for whoever asks, and with it http.headers.

    A browser asks before it lets a page of another origin send the request itself, and names nobody
    then. Whether there is such a resource is not looked up.
    """
    allowed = ", ".join(sorted(access.RULES[target.kind]))
    return Response(headers={"Allow": allowed, "Content-Length": "0"})


async def _root(request: Request) -> Response:
    """As Distribution: an empty 200, which load balancers probe."""
    del request
    return Response()


class Application(Starlette):
    """Starlette, with the API in front of its router and middleware.

    Those would find the same route and the same handler of errors, at a third of the cost of a small
    request. Percent-encoding is resolved in neither: what a balancer keeps to itself, such as /metrics, is
    to have one spelling.
    """

    def __init__(self, api: Api, **options: Any) -> None:
        super().__init__(**options)
        # Its redirects to the path with or without a slash would go to whatever Host says.
        self.router.redirect_slashes = False
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope["raw_path"]
            if self._api.owns(raw):
                await self._api(scope, receive, send)
                return
            scope["path"] = raw.decode("latin-1")
        await super().__call__(scope, receive, send)


def create_app(
    services: Services,
    *,
    prefix: str = "",
    others: Sequence[BaseRoute] = (),
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> Application:
    """`others` are the routes outside the API: health and metrics."""
    return Application(
        Api(services, prefix),
        routes=[*others, Route("/", _root)],
        exception_handlers={HTTPException: on_http_exception},
        lifespan=lifespan,
    )
