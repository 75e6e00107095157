"""end-4, 5, 6, 11, 13 and 14: how blobs come in.

What a client may do next is in the Location of each answer; see storage/uploads.py for what makes that
safe on any worker, and after any crash.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from starlette.responses import Response

from registry.access import may_pull
from registry.api.call import Call, Handlers
from registry.errors import record, respond
from registry.parsing import parse_chunk
from registry.responses import warning
from registry.streaming import ClientGone, discard
from storage.model.digest import CANONICAL, Digest, parse_algorithm
from storage.model.errors import (
    BlobUnknown,
    DigestInvalid,
    Doomed,
    NameInvalid,
    RangeInvalid,
    RegistryError,
    UploadInvalid,
    UploadUnknown,
)
from storage.model.reference import RepositoryName
from storage.upload_session import Progress, Session

log = logging.getLogger("holdfast.uploads")


async def start(call: Call) -> Response:
    """POST: begin an upload, push a whole blob, or mount one that is here already."""
    call.threads.require()
    if call.query.get("mount") is not None and (mounted := await _mount(call)) is not None:
        return mounted
    digest = call.query.get("digest")
    if digest is not None:
        call.refuse_encoded_body()
        expected = Digest.parse(digest)
        body = call.body()
        if body.expected != 0 or expected == Digest.of(b"", expected.algorithm):
            return await _push_whole(call, expected)
        # The digest came without its content: the client means to send that next.
    algorithm = parse_algorithm(call.query.get("digest-algorithm") or CANONICAL)
    progress = await call.threads.run(call.repository.uploads.start, algorithm)
    headers = _progress_headers(call, progress)
    if minimum := call.services.policy.minimum_chunk:
        headers["OCI-Chunk-Min-Length"] = str(minimum)
    return Response(status_code=202, headers=headers)


async def status(call: Call) -> Response:
    try:
        _progress_of(call)
        begun = True
    except UploadInvalid:  # the URL need not be whole: the storage knows all but an empty upload
        begun = False
    look = partial(call.repository.uploads.status, call.target.upload_id, begun=begun)
    progress = await call.threads.look_up(look)
    return Response(status_code=204, headers=_progress_headers(call, progress))


async def cancel(call: Call) -> Response:
    _progress_of(call)
    await call.threads.run(call.repository.uploads.cancel, call.target.upload_id)
    return Response(status_code=204)


async def append(call: Call) -> Response:
    """PATCH: the next chunk, or a stream of them."""
    call.threads.require()
    call.refuse_encoded_body()
    progress, start = _progress_of(call), _chunk_start(call)
    try:
        session = await _resume(call, progress, start)
    except RangeInvalid as error:
        return _misplaced(call, progress, error)
    try:
        try:
            await call.services.uploading.receive(call.body(), session)
        except ClientGone:
            await call.threads.run(session.checkpoint)  # what came is kept: the client may go on
            raise
        new = await call.threads.run(session.checkpoint)
    finally:
        session.close()
    headers = _progress_headers(call, new)
    minimum = call.services.policy.minimum_chunk
    if start is not None and minimum > new.offset - progress.offset > 0:
        headers.update(warning(f"Chunks of less than {minimum} bytes, but the last, are slow."))
    return Response(status_code=202, headers=headers)


async def finish(call: Call) -> Response:
    """PUT: the rest of the content, if any, and the digest of it all."""
    call.threads.require()
    call.refuse_encoded_body()
    expected = call.query.digest()
    progress, start = _progress_of(call), _chunk_start(call)
    try:
        session = await _resume(call, progress, start, expected)
    except RangeInvalid as error:
        return _misplaced(call, progress, error)
    except UploadUnknown:
        if not await call.run_undoomed(call.repository.uploads.finished, progress, expected):
            raise
        await discard(call.body())
        return _created(call, expected)
    try:
        await call.services.uploading.receive(call.body(), session)
        await call.run_undoomed(call.repository.uploads.commit, session, expected)
    except UploadUnknown:  # which a remote storage says no sooner than it is asked to publish
        if not await call.run_undoomed(call.repository.uploads.finished, progress, expected):
            raise
    finally:
        session.close()
    return _created(call, expected)


async def _push_whole(call: Call, expected: Digest) -> Response:
    uploads = call.repository.uploads
    progress = await call.threads.run(uploads.start, expected.algorithm)
    try:
        session = await call.threads.run(uploads.resume, progress, expected)
        try:
            await call.services.uploading.receive(call.body(), session)
            await call.run_undoomed(uploads.commit, session, expected)
        finally:
            session.close()
    except (RegistryError, ClientGone):
        # Nobody else knows of this upload, so nobody could go on with it.
        await call.threads.run(uploads.clear, progress.upload_id)
        raise
    return _created(call, expected)


async def _mount(call: Call) -> Response | None:
    """None for whatever reason it cannot be done: then an upload begins, and tells nothing."""
    try:
        digest = Digest.parse(call.query.get("mount") or "")
        source = call.query.get("from")
        name = None if source is None else RepositoryName(source)
    except (DigestInvalid, NameInvalid):
        return None
    repository = call.repository
    try:
        if name is not None:
            if not may_pull(call.services.authorizer, call.identity, name):
                return None
            blobs = call.services.store.repository(name).blobs
            await call.threads.run(repository.blobs.mount, digest, blobs)
        elif call.services.authorizer.reads_everything:
            await call.threads.run(repository.blobs.adopt, digest)
        else:
            return None
    except (BlobUnknown, Doomed):
        return None
    return _created(call, digest)


async def _resume(
    call: Call, progress: Progress, start: int | None, final: Digest | None = None
) -> Session:
    if start is not None and start != progress.offset:
        look = partial(call.repository.uploads.status, progress.upload_id, begun=True)
        held = await call.threads.look_up(look)
        raise RangeInvalid(
            f"The chunk begins at {start}, but the upload has {held.offset} bytes.",
            offset=held.offset,
        )
    return await call.threads.run(call.repository.uploads.resume, progress, final)


def _progress_of(call: Call) -> Progress:
    token = call.query.get("_state")
    return call.services.tokens.verify(token, call.target.name, call.target.upload_id)


def _chunk_start(call: Call) -> int | None:
    return parse_chunk(call.header("content-range"), call.body().expected)


def _progress_headers(call: Call, progress: Progress) -> dict[str, str]:
    name = call.target.name
    token = call.services.tokens.issue(name, progress)
    return {
        "Location": call.location(f"{name}/blobs/uploads/{progress.upload_id}?_state={token}"),
        "Range": f"0-{max(progress.offset - 1, 0)}",
        "Docker-Upload-UUID": progress.upload_id,
        "Content-Length": "0",
    }


def _misplaced(call: Call, progress: Progress, error: RangeInvalid) -> Response:
    """416, with what the client needs to go on at the right place."""
    record(call.request, error.code)
    held = replace(progress, offset=error.offset, digest=None, state="", hash_state=b"")
    headers: Mapping[str, str] = _progress_headers(call, held)
    kept = {key: value for key, value in headers.items() if key != "Content-Length"}
    return respond(error, kept)


def _created(call: Call, digest: Digest) -> Response:
    headers = {
        "Location": call.blob_location(call.target.name, digest),
        "Docker-Content-Digest": str(digest),
        "Content-Length": "0",
    }
    return Response(status_code=201, headers=headers)


HANDLERS_START: Handlers = {"POST": start}
HANDLERS: Handlers = {
    "GET": status,
    "HEAD": status,
    "PATCH": append,
    "PUT": finish,
    "DELETE": cancel,
}
