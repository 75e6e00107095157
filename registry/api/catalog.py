"""`_catalog`: the repositories, as Distribution lists them, but only those the caller may see."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.responses import JSONResponse, Response

from auth.model import CATALOG
from registry.access import may_see
from registry.api.call import Call, Handlers
from registry.responses import next_page
from storage.model.reference import RepositoryName

DEFAULT = 100


async def get(call: Call) -> Response:
    limit = call.services.policy.catalog_limit
    size = call.query.page_size(limit=limit)
    after = call.query.last_name()
    if size == 0:
        return JSONResponse({"repositories": []})
    size = min(DEFAULT, limit) if size is None else size
    look = partial(call.services.store.catalog.list, after=after, limit=size, shown=_shown(call))
    names, more = await call.threads.look_up(look)
    headers = {}
    if more:
        headers = next_page(call.services.links.path("/v2/_catalog"), last=str(names[-1]), n=size)
    return JSONResponse({"repositories": [name.value for name in names]}, headers=headers)


def _shown(call: Call) -> Callable[[RepositoryName], bool] | None:
    """Which names the caller may see; None for all of them."""
    authorizer = call.services.authorizer
    if authorizer.permits(call.identity, CATALOG):
        return None
    return lambda name: may_see(authorizer, call.identity, name)


HANDLERS: Handlers = {"GET": get, "HEAD": get}
