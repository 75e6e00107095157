"""A probe of a few bytes, pushed through one node and finished through another.

It is read back through each, and taken out again where deleting is allowed.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Final

from registry.doctor.client import Answer, Node
from storage.examination import Observation, problem, well

REPOSITORY: Final = "holdfast-doctor/probe"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.empty.v1+json"


def push(node: Node, other: Node, all_nodes: Sequence[Node]) -> Iterator[Observation]:
    """Begin at one node, go on at the other and the one, finish at the other, read at all."""
    way = node.url if node is other else f"{node.url} and {other.url}"
    content = secrets.token_bytes(64)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    try:
        for reader in all_nodes:  # so that who remembers an absence is found out
            reader.ask("HEAD", f"v2/{REPOSITORY}/blobs/{digest}")
        step = node.ask("POST", f"v2/{REPOSITORY}/blobs/uploads/", b"")
        if step.status != 202:
            yield _cannot_push(node, step)
            return
        yield from _location(node, step.header("location"))
        for taker, piece in ((other, content[:32]), (node, content[32:])):
            step = taker.ask("PATCH", step.next_path, piece, kind="application/octet-stream")
            if step.status != 202:
                yield _broken(way, "PATCH", step)
                return
        step = other.ask("PUT", f"{step.next_path}&digest={urllib.parse.quote(digest)}", b"")
        if step.status != 201:
            yield _broken(way, "PUT", step)
            return
        yield well(way, "An upload begun at one is continued and finished at the other.")
        for reader in all_nodes:
            yield from _pull(reader, digest, content)
        yield from _tag(node, other, all_nodes, digest, len(content))
    except OSError as error:
        yield problem(
            way, f"The connection broke: {error}.", "Look into the logs of node and balancer."
        )
    finally:
        _take_out(node, digest)


def _tag(
    node: Node, other: Node, all_nodes: Sequence[Node], digest: str, size: int
) -> Iterator[Observation]:
    """A tag that is moved is seen moved at all; only where it can be taken out again."""
    path = f"v2/{REPOSITORY}/manifests/doctor-{secrets.token_hex(4)}"
    if node.ask("DELETE", path).status != 404:
        return  # 405 or 403: it would stay for ever
    config = {"mediaType": _CONFIG, "digest": digest, "size": size}
    manifests = [
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": config,
                "layers": [],
                "annotations": {"holdfast.doctor": moment},
            }
        ).encode()
        for moment in ("before", "after")
    ]
    try:
        for writer, manifest in zip((node, other), manifests, strict=True):
            put = writer.ask("PUT", path, manifest, kind=_MANIFEST)
            if put.status != 201:
                yield _broken(writer.url, "PUT of a manifest", put)
                return
            for reader in all_nodes:
                if reader.ask("GET", path).body != manifest:
                    yield problem(
                        reader.url,
                        f"A tag that was just set through {writer.url} is not seen as it is.",
                        "It has caches that break close-to-open: see the mount options in docs/nodes.md. "
                        "With storage.cache.tagttl it is as configured.",
                    )
                    return
        yield well(other.url, "A tag that it moves is seen moved at once.")
    finally:
        for manifest in manifests:
            name = hashlib.sha256(manifest).hexdigest()
            node.ask("DELETE", f"v2/{REPOSITORY}/manifests/sha256:{name}")


def _take_out(node: Node, digest: str) -> None:
    """Where deleting is not allowed the probe stays, for the collector: 64 bytes."""
    try:
        node.ask("DELETE", f"v2/{REPOSITORY}/blobs/{digest}")
    except OSError:
        return


def _cannot_push(node: Node, answer: Answer) -> Observation:
    return problem(
        node.url,
        f"A push to {REPOSITORY} is refused with {answer.status}: {answer.message}",
        "Give the credentials of one who may push there, or see the registry's log.",
    )


def _broken(way: str, method: str, answer: Answer) -> Observation:
    return problem(
        way,
        f"{method} of an upload begun at the one is refused at the other with {answer.status}: "
        f"{answer.message}",
        "Both need the same storage (bucket and rootdirectory, or mount), and the same http.secret "
        "if one has any.",
    )


def _location(node: Node, location: str) -> Iterator[Observation]:
    """An absolute Location sends the client where it says: that must be where it came from."""
    given, wanted = urllib.parse.urlsplit(location), urllib.parse.urlsplit(node.url)
    if given.netloc and (given.scheme, given.netloc) != (wanted.scheme, wanted.netloc):
        yield problem(
            node.url,
            f"It sends clients on to {given.scheme}://{given.netloc}.",
            "Set http.relativeurls: true, or http.host to the address that clients use; or list the "
            "balancer in http.trustedproxies and let it send X-Forwarded-Proto and Host.",
        )
    else:
        yield well(node.url, "It sends clients on to the address that they came to.")


def _pull(node: Node, digest: str, content: bytes) -> Iterator[Observation]:
    answer = node.ask("GET", f"v2/{REPOSITORY}/blobs/{digest}")
    if answer.status in (302, 303, 307):
        url = answer.header("location")
        host = urllib.parse.urlsplit(url).netloc
        try:
            answer = Node(url, cafile=node.cafile).ask("GET", url)
        except OSError as error:
            yield problem(
                node.url,
                f"Pulls are sent to {host}, which cannot be reached from here: {error}.",
                "Set storage.s3.redirectendpoint to an address that clients reach, or switch "
                "redirects off: storage.redirect.disable, or disablefor with this network.",
            )
            return
    if answer.status == 404:
        yield problem(
            node.url,
            "It does not see what was just pushed.",
            "It has another storage, or caches that it is not there: compare bucket, rootdirectory "
            "and mount options.",
        )
    elif answer.body != content:
        yield problem(
            node.url,
            f"A pull of the probe is answered {answer.status} with other content.",
            "Something between here and the registry changes bodies; look at the balancer.",
        )
    else:
        yield well(node.url, "It gives what was pushed.")
