"""end-2 and end-10: blobs by digest."""

from __future__ import annotations

import contextlib
from functools import lru_cache

from starlette.responses import Response

from registry.acceleration import HEADER as ACCEL_REDIRECT
from registry.api.call import Call, Handlers
from registry.errors import record, respond
from registry.middleware import record_of
from registry.parsing import parse_etags
from registry.redirects import LIFETIME
from registry.responses import (
    ByteRange,
    ContentResponse,
    EncodedResponse,
    RawHeaders,
    Unsatisfiable,
    encoded,
    etag,
    parse_range,
)
from storage.blobs import Blob, unknown
from storage.collection import entries
from storage.driver import Reader
from storage.driver_errors import DriverError
from storage.model import mediatype
from storage.model.digest import Digest

CACHEABLE = "max-age=31536000"


def _headers(digest: Digest, length: int) -> dict[str, str]:
    return {
        "Content-Type": mediatype.BLOB,
        "Content-Length": str(length),
        "Docker-Content-Digest": str(digest),
        "ETag": etag(digest),
        "Accept-Ranges": "bytes",
        "Cache-Control": CACHEABLE,
        "Content-Disposition": "attachment",
    }


@lru_cache(maxsize=1024)
def _encoded_headers(digest: Digest, length: int) -> RawHeaders:
    return encoded(_headers(digest, length))


async def head(call: Call) -> Response:
    digest = call.target.digest
    blob = await call.look_up(lambda repository: repository.blobs.stat(digest), surely=True)
    if await call.is_going(entries.blob(blob.stored)):
        raise unknown(digest)
    if (unchanged := _not_modified(call, digest)) is not None:
        return unchanged
    return EncodedResponse(b"", 200, _encoded_headers(digest, blob.size))


async def get(call: Call) -> Response:
    digest = call.target.digest
    try:
        elsewhere = await _redirected(call, digest) or await _accelerated(call, digest)
        return elsewhere or await _served(call, digest)
    except Unsatisfiable as error:
        record(call.request, error.code)
        return respond(error, {"Content-Range": f"bytes */{error.size}"})


async def _served(call: Call, digest: Digest) -> Response:
    """The bytes, through this process. Raises Unsatisfiable."""
    blob, reader = await call.look_up(lambda repository: repository.blobs.open(digest), _let_go)
    try:
        if (unchanged := _not_modified(call, digest)) is not None:
            reader.close()
            return unchanged
        span = parse_range(_range(call, digest), blob.size)
    except BaseException:  # a cancelled request, too, must not leave the file open
        reader.close()
        raise
    status = 200 if span is None else 206
    span = span or ByteRange(0, blob.size)
    headers = _headers(digest, span.length)
    if status == 206:
        last = span.start + span.length - 1
        headers["Content-Range"] = f"bytes {span.start}-{last}/{blob.size}"
    response = ContentResponse(reader, span, call.threads, status, headers)
    await response.begin(call.request.scope)
    return response


async def _redirected(call: Call, digest: Digest) -> Response | None:
    """The way to the object store, or None if the client is served here."""
    store = call.services.store
    if not store.driver.remote or not call.services.redirects.allowed(
        call.request.scope["holdfast"].client, call.header("user-agent")
    ):
        return None
    url = await call.look_up(lambda repository: repository.blobs.url(digest, LIFETIME))
    if (unchanged := _not_modified(call, digest)) is not None:
        return unchanged
    if url is None:
        return None
    headers = {
        "Location": url,
        "Docker-Content-Digest": str(digest),
        "Content-Length": "0",
        "Cache-Control": "no-store",
    }
    return EncodedResponse(b"", 307, encoded(headers))


async def _accelerated(call: Call, digest: Digest) -> Response | None:
    """The place of the file, for a proxy that sends it, or None. Raises Unsatisfiable.

    What of it is sent the proxy finds in the request; status and length are for the log.
    """
    acceleration = call.services.acceleration
    if acceleration is None or not acceleration.wanted(call.request):
        return None
    blob = await call.look_up(lambda repository: repository.blobs.stat(digest))
    if (unchanged := _not_modified(call, digest)) is not None:
        return unchanged
    span = parse_range(_range(call, digest), blob.size)
    length = blob.size if span is None else span.length
    record_of(call.request.scope).handed_over = length
    headers = {**_headers(digest, 0), ACCEL_REDIRECT: acceleration.place(blob.stored)}
    del headers["Accept-Ranges"]  # nginx says that too, and passes this on
    return Response(status_code=200 if span is None else 206, headers=headers)


async def delete(call: Call) -> Response:
    call.require_deletes()
    call.threads.require()
    await call.threads.run(call.repository.blobs.delete, call.target.digest)
    return Response(status_code=202, headers={"Content-Length": "0"})


def _let_go(found: tuple[Blob, Reader]) -> None:
    """Of content that was found too late. Nobody waits to hear that it could not be closed."""
    with contextlib.suppress(DriverError):
        found[1].close()


def _range(call: Call, digest: Digest) -> str | None:
    """The Range header, unless If-Range shows that the client holds another representation."""
    condition = call.header("if-range")
    if condition is not None and condition.strip() != etag(digest):
        return None
    return call.header("range")


def _not_modified(call: Call, digest: Digest) -> Response | None:
    condition = call.header("if-none-match")
    if condition is None or not ({str(digest), "*"} & set(parse_etags(condition))):
        return None
    headers = {"ETag": etag(digest), "Docker-Content-Digest": str(digest)}
    return Response(status_code=304, headers={**headers, "Cache-Control": CACHEABLE})


HANDLERS: Handlers = {"GET": get, "HEAD": head, "DELETE": delete}
