"""A program for tests: `python -m tests.registry.server.served '<settings as JSON>'`.

GET /pid names the worker, /ready fails while draining, /slow?s answers after so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

from starlette.types import ASGIApp, Receive, Scope, Send

from registry.server import Lifecycle, ServerSettings, TLSSettings
from registry.server.workers import serve
from tests.registry.server.harness import routed, say


def make_app(lifecycle: Lifecycle) -> ASGIApp:
    if os.environ.get("FAIL") == "make":
        raise RuntimeError("no application today")

    async def pid(_scope: Scope, _receive: Receive, send: Send) -> None:
        await say(send, 200, f"{os.getpid()} {lifecycle.worker}".encode())

    async def ready(_scope: Scope, _receive: Receive, send: Send) -> None:
        await say(send, 503 if lifecycle.draining else 200)

    async def slow(scope: Scope, _receive: Receive, send: Send) -> None:
        logging.info("slow begins")
        try:
            await asyncio.sleep(float(scope["query_string"]))
        except asyncio.CancelledError:
            logging.info("slow was cancelled")
            raise
        await say(send, 200, b"done")

    inner = routed({"/pid": pid, "/ready": ready, "/slow": slow})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and os.environ.get("FAIL") == "startup":
            await send({"type": "lifespan.startup.failed", "message": "the storage is away"})
            return
        await inner(scope, receive, send)
        if scope["type"] == "lifespan":
            logging.info("lifespan ended")

    return app


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    settings = json.loads(sys.argv[1])
    if isinstance(settings["addr"], list):
        settings["addr"] = tuple(settings["addr"])
    if "tls" in settings:
        settings["tls"] = TLSSettings(**settings["tls"])
    return serve(
        ServerSettings(**settings),
        make_app,
        before_fork=lambda: logging.info("before the fork"),
        worker_died=lambda pid: logging.info("worker died: %d", pid),
    )


if __name__ == "__main__":
    sys.exit(main())
