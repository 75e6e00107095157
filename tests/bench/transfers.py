"""Pulls and pushes as clients make them, request by request, each answer checked."""

from __future__ import annotations

import json
import ssl

from tests.bench.content import Content
from tests.bench.wire import Head, Wire


def with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def pull_blob(
    port: int, repository: str, content: Content, tls: ssl.SSLContext | None = None
) -> None:
    """GET a blob and compare its every byte and its digest. Raises Unverified."""
    with Wire(port, tls=tls) as wire:
        wire.send_head("GET", f"/v2/{repository}/blobs/{content.digest}")
        head = wire.read_head().expect(200, "GET of a blob")
        wire.read_content(head.expect_digest(content.digest, "GET of a blob"), content)


def pull_blob_hashing(port: int, repository: str, content: Content) -> None:
    """GET a blob as docker does. Raises Unverified."""
    with Wire(port) as wire:
        wire.send_head("GET", f"/v2/{repository}/blobs/{content.digest}")
        wire.hash_content(wire.read_head().expect(200, "GET of a blob"), content)


def push_patch(wire: Wire, repository: str, content: Content) -> None:
    """POST, one PATCH with a chunked body, PUT: what docker, podman and skopeo do."""
    place = start_upload(wire, repository)
    wire.send_head(
        "PATCH",
        place,
        {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"},
    )
    wire.send_chunked(content)
    head = wire.read_head().expect(202, "PATCH")
    _skip_body(wire, head)
    finish_upload(wire, head.location, content.digest)


def push_put(wire: Wire, repository: str, content: Content) -> None:
    """POST, then one PUT that names the digest and has the whole body, with Content-Length."""
    place = start_upload(wire, repository)
    wire.send_head(
        "PUT",
        with_digest(place, content.digest),
        {"Content-Type": "application/octet-stream", "Content-Length": str(content.size)},
    )
    wire.send_content(content)
    head = wire.read_head().expect(201, "PUT of a whole blob")
    _skip_body(wire, head.expect_digest(content.digest, "PUT of a whole blob"))


def push_chunks(wire: Wire, repository: str, content: Content, chunk: int) -> None:
    """POST, a PATCH of Content-Range for every `chunk` bytes, PUT: the chunked push of the OCI spec."""
    place = start_upload(wire, repository)
    for start in range(0, content.size, chunk):
        size = min(chunk, content.size - start)
        wire.send_head(
            "PATCH",
            place,
            {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size),
                "Content-Range": f"{start}-{start + size - 1}",
            },
        )
        wire.send_content(content, start, size)
        head = wire.read_head().expect(202, "PATCH of a chunk")
        _skip_body(wire, head)
        place = head.location
    finish_upload(wire, place, content.digest)


def start_upload(wire: Wire, repository: str) -> str:
    head, _ = wire.ask("POST", f"/v2/{repository}/blobs/uploads/", body=b"")
    return head.expect(202, "POST of an upload").location


def finish_upload(wire: Wire, location: str, digest: str) -> None:
    head, _ = wire.ask("PUT", with_digest(location, digest), body=b"")
    head.expect(201, "PUT that ends an upload").expect_digest(digest, "PUT that ends an upload")


def push_manifest(wire: Wire, repository: str, tag: str, manifest: bytes, digest: str) -> None:
    kind = str(json.loads(manifest)["mediaType"])
    path = f"/v2/{repository}/manifests/{tag}"
    head, _ = wire.ask("PUT", path, {"Content-Type": kind}, manifest)
    head.expect(201, "PUT of a manifest").expect_digest(digest, "PUT of a manifest")


def _skip_body(wire: Wire, head: Head) -> None:
    if head.status != 204 and head.headers.get("content-length", "0") != "0":
        wire.read_body(head)
