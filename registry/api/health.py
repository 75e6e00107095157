"""What probes ask: `/healthz` (the process lives), `/readyz` (send it requests), `/metrics`.

Liveness does not depend on the storage: restarting a registry mends no bucket. None of them looks at
the storage, or says where it is.
"""

from __future__ import annotations

from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from registry.middleware import record_of
from registry.readiness import StorageProbe
from registry.telemetry.metrics import CONTENT_TYPE, Metrics

_HEADERS: Final = {"Cache-Control": "no-store"}


class Lifecycle(Protocol):
    """What readiness has to know of the server."""

    @property
    def draining(self) -> bool: ...


def health_routes(
    lifecycle: Lifecycle,
    probe: StorageProbe,
    metrics: Metrics,
    *,
    metrics_path: str | None = "/metrics",
) -> list[Route]:
    """The routes, outside the API and its access rules. None as `metrics_path`: no metrics."""

    async def healthz(request: Request) -> Response:
        record_of(request.scope).route = "healthz"
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    async def readyz(request: Request) -> Response:
        record_of(request.scope).route = "readyz"
        ready = probe.ready and not lifecycle.draining
        content = {
            "status": "ok" if ready else "unavailable",
            "storage": probe.reason,
            "draining": lifecycle.draining,
        }
        return JSONResponse(content, 200 if ready else 503, headers=_HEADERS)

    async def exposition(request: Request) -> Response:
        record_of(request.scope).route = "metrics"
        content = await run_in_threadpool(metrics.exposition)
        return Response(content, headers=_HEADERS, media_type=CONTENT_TYPE)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz)]
    if metrics_path is not None:
        routes.append(Route(metrics_path, exposition))
    return routes
