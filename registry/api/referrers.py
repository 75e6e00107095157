"""end-12: the manifests whose subject is a given digest."""

from __future__ import annotations

import json
from functools import partial

from starlette.responses import Response

from registry.api.call import Call, Handlers
from registry.responses import next_page
from storage.model import mediatype
from storage.model.digest import Digest
from storage.model.errors import DigestInvalid, PaginationInvalid

PAGE_BYTES = 2 * 1024 * 1024
"""What a page holds before the next begins; well below what clients take for a manifest (4 MiB)."""

Descriptors = dict[Digest, dict[str, object]]


async def get(call: Call) -> Response:
    """Never 404: a subject that nobody knows has no referrers."""
    subject = call.target.digest
    wanted = call.query.get("artifactType")
    last, limit = _last(call), call.query.page_size(limit=1000)
    look = partial(call.repository.manifests.referrers, subject)
    found: Descriptors = await call.threads.look_up(look)
    headers = {}
    if wanted:
        found = {key: value for key, value in found.items() if value.get("artifactType") == wanted}
        headers["OCI-Filters-Applied"] = "artifactType"
    page, more = _page(found, last, limit)
    if more:
        path = call.services.links.path(f"/v2/{call.target.name}/referrers/{subject}")
        n = call.query.get("n")
        headers |= next_page(path, artifactType=wanted or None, last=str(more), n=n)
    index = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": page}
    content = json.dumps(index, separators=(",", ":")).encode("utf-8")
    return Response(content, headers={**headers, "Content-Type": mediatype.OCI_INDEX})


def _page(
    found: Descriptors, last: str, limit: int | None
) -> tuple[list[dict[str, object]], Digest | None]:
    """The descriptors after `last`, and the last one shown if there are more."""
    page: list[dict[str, object]] = []
    size, shown = 0, None
    for digest, descriptor in found.items():
        if str(digest) <= last:
            continue
        size += len(json.dumps(descriptor))
        full = bool(page) and size > PAGE_BYTES
        if full or (limit is not None and len(page) >= limit):
            return page, shown
        page.append(descriptor)
        shown = digest
    return page, None


def _last(call: Call) -> str:
    text = call.query.get("last")
    try:
        return "" if not text else str(Digest.parse(text))
    except DigestInvalid:
        raise PaginationInvalid(
            "The parameter last is the last digest of the page before."
        ) from None


HANDLERS: Handlers = {"GET": get, "HEAD": get}
