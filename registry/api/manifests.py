"""end-3, end-7 and end-9: manifests by tag or digest."""

from __future__ import annotations

from functools import lru_cache

from starlette.responses import Response

from registry.api.call import Call, Handlers
from registry.errors import TooManyTags
from registry.parsing import parse_etags, parse_expectation
from registry.responses import EncodedResponse, RawHeaders, encoded, etag, warning
from registry.streaming import read_at_most
from storage.collection import entries
from storage.manifests import too_large, unknown
from storage.model.digest import Digest
from storage.model.errors import ManifestInvalid
from storage.model.manifest import SIZE_LIMIT
from storage.model.mediatype import INDEXES
from storage.model.reference import Tag

TAGS_AT_ONCE = 100


async def get(call: Call) -> Response:
    """Whatever Accept says: a client that cannot read it says so better than a 404 could."""
    reference = call.target.reference
    # By HEAD and a digest a client asks whether it must push: what was deleted must not be there.
    asks = call.request.method == "HEAD" and isinstance(reference, Digest)
    stored = await call.look_up(lambda found: found.manifests.get(reference), surely=asks)
    pulls = call.services.pulls
    if pulls is not None and (call.request.method == "GET" or isinstance(reference, Tag)):
        pulls.note(call.target.name, reference)
    digest = stored.digest
    if asks and await call.is_going(
        entries.manifest(call.target.name, digest), entries.blob(digest)
    ):
        raise unknown(digest)
    unchanged, whole = _headers(digest, stored.media_type, len(stored.content))
    condition = call.header("if-none-match")
    if condition is not None and {str(digest), "*"} & set(parse_etags(condition)):
        return EncodedResponse(b"", 304, unchanged)
    return EncodedResponse(stored.content, 200, whole)


@lru_cache(maxsize=1024)
def _headers(digest: Digest, media_type: str, length: int) -> tuple[RawHeaders, RawHeaders]:
    """Of the answer that the manifest has not changed, and of the manifest."""
    unchanged = {"Docker-Content-Digest": str(digest), "ETag": etag(digest)}
    whole = {**unchanged, "Content-Type": media_type, "Content-Length": str(length)}
    return encoded(unchanged), encoded(whole)


async def put(call: Call) -> Response:
    call.refuse_encoded_body()
    reference, tags = call.target.reference, call.query.tags()
    if tags and isinstance(reference, Tag):
        raise ManifestInvalid("The tag parameter goes with a push by digest, not by tag.")
    if len(tags) > TAGS_AT_ONCE:
        raise TooManyTags(TAGS_AT_ONCE)
    expected = parse_expectation(call.header("if-match"), call.header("if-none-match"))
    call.threads.require()
    content = await read_at_most(call.body(), SIZE_LIMIT)
    if content is None:
        raise too_large()
    digest, manifest = await call.run_undoomed(
        call.repository.manifests.put,
        content,
        call.header("content-type") or "",
        reference,
        tags,
        expected,
    )
    response = Response(
        status_code=201,
        headers={
            "Location": call.location(f"{call.target.name}/manifests/{digest}"),
            "Docker-Content-Digest": str(digest),
            "Content-Length": "0",
        },
    )
    if manifest.subject is not None:
        response.headers["OCI-Subject"] = str(manifest.subject.digest)
    for tag in tags:
        response.headers.append("OCI-Tag", str(tag))
    if isinstance(reference, Tag) and _is_fallback(reference) and manifest.media_type in INDEXES:
        response.headers.update(
            warning("This registry lists referrers itself; the fallback tag is not needed.")
        )
    return response


async def delete(call: Call) -> Response:
    call.require_deletes()
    call.threads.require()
    repository, reference = call.repository, call.target.reference
    if isinstance(reference, Digest):
        await call.threads.run(repository.manifests.delete, reference)
    else:
        await call.threads.run(repository.tags.delete, reference)
    return Response(status_code=202, headers={"Content-Length": "0"})


def _is_fallback(tag: Tag) -> bool:
    """Under such a tag a client keeps an index of referrers, where a registry does not list them."""
    return str(tag).startswith(("sha256-", "sha512-")) and len(str(tag)) == 71


HANDLERS: Handlers = {"GET": get, "HEAD": get, "PUT": put, "DELETE": delete}
