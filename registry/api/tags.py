"""end-8: the tags of a repository."""

from __future__ import annotations

from functools import partial

from starlette.responses import JSONResponse, Response

from registry.api.call import Call, Handlers
from registry.responses import next_page


async def get(call: Call) -> Response:
    """In byte order. Without `n` all of them, as Distribution does."""
    size = call.query.page_size(limit=call.services.policy.tags_limit)
    after = call.query.last_tag()
    repository = call.repository
    if size == 0:
        await call.threads.look_up(repository.require)
        return JSONResponse({"name": str(repository.name), "tags": []})
    look = partial(repository.list_tags, after=after, limit=size)
    tags, more = await call.threads.look_up(look)
    headers = {}
    if more:
        path = call.services.links.path(f"/v2/{repository.name}/tags/list")
        headers = next_page(path, last=str(tags[-1]), n=size)
    content = {"name": str(repository.name), "tags": [tag.value for tag in tags]}
    return JSONResponse(content, headers=headers)


HANDLERS: Handlers = {"GET": get, "HEAD": get}
