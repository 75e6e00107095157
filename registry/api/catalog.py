"""`_catalog`: the repositories, as Distribution lists them."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from registry.api.call import Call, Handlers
from registry.responses import next_page

DEFAULT = 100


async def get(call: Call) -> Response:
    limit = call.services.policy.catalog_limit
    size = call.query.page_size(limit=limit)
    after = call.query.last_name()
    if size == 0:
        return JSONResponse({"repositories": []})
    size = min(DEFAULT, limit) if size is None else size
    catalog = call.services.store.catalog
    names, more = await call.threads.run(catalog.list, after=after, limit=size)
    headers = {}
    if more:
        headers = next_page(call.services.links.path("/v2/_catalog"), last=str(names[-1]), n=size)
    return JSONResponse({"repositories": [str(name) for name in names]}, headers=headers)


HANDLERS: Handlers = {"GET": get, "HEAD": get}
