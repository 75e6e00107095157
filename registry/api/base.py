"""end-1: the API is here, and the credentials are good."""

from __future__ import annotations

from starlette.responses import Response

from registry.api.call import Call, Handlers


async def get(call: Call) -> Response:
    del call
    return Response(b"{}", media_type="application/json")


HANDLERS: Handlers = {"GET": get, "HEAD": get}
