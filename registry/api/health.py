"""What probes ask: `/healthz` (the process lives), `/readyz` (send it requests), `/metrics`.

Liveness does not depend on the storage: restarting a registry mends no bucket. None of them looks at
the storage, or says where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from registry.middleware import record_of
from registry.readiness import StorageProbe
from registry.telemetry.metrics import CONTENT_TYPE, Metrics

_HEADERS: Final = {"Cache-Control": "no-store"}

OUTDATED: Final = (
    "A file of users, rules or keys is not as it should be; what was read last without an error is in "
    "force. The log says which file, and what to do."
)
STUCK: Final = "Too many requests wait for a storage that does not answer."


class Lifecycle(Protocol):
    """What readiness has to know of the server."""

    @property
    def draining(self) -> bool: ...


def health_routes(
    lifecycle: Lifecycle,
    probe: StorageProbe,
    metrics: Metrics,
    *,
    exhausted: Callable[[], bool] = lambda: False,
    problems: Callable[[], Sequence[str]] = tuple,
    metrics_path: str | None = "/metrics",
) -> list[Route]:
    """The routes, outside the API and its access rules. None as `metrics_path`: no metrics.

    While `exhausted`, new requests that need the storage are refused (`Threads.exhausted`).
    `problems` are those of files that say who may do what; requests go on by the last good ones.
    """

    async def healthz(request: Request) -> Response:
        record_of(request.scope).route = "healthz"
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    async def readyz(request: Request) -> Response:
        record_of(request.scope).route = "readyz"
        stuck = exhausted()
        ready = probe.ready and not stuck and not lifecycle.draining
        content = {
            "status": "ok" if ready else "unavailable",
            "storage": STUCK if stuck else probe.reason,
            "draining": lifecycle.draining,
        }
        if problems():  # what exactly is for the log, not for whoever can ask here
            content["authentication"] = OUTDATED
        return JSONResponse(content, 200 if ready else 503, headers=_HEADERS)

    async def exposition(request: Request) -> Response:
        record_of(request.scope).route = "metrics"
        content = await run_in_threadpool(metrics.exposition)
        return Response(content, headers=_HEADERS, media_type=CONTENT_TYPE)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz)]
    if metrics_path is not None:
        routes.append(Route(metrics_path, exposition))
    return routes
