"""What a registry holds before anything goes wrong, and the record of what it has acknowledged."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.inprocess import Answer, Registry, Request
from tests.support.images import (
    EMPTY_JSON,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    artifact,
    descriptor,
    dumps,
    random_bytes,
    sha256,
)

APP = "team/app"
LIB = "team/lib"
LAYERS = tuple(random_bytes(size, size) for size in (1000, 70_000, 200_000))
BLOB = random_bytes(150_000, "the blob that is pushed when things go wrong")
HALF = 60_000
SIGNATURE = "application/vnd.example.signature"


def image(*layers: bytes) -> bytes:
    return dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_EMPTY, EMPTY_JSON),
            "layers": [descriptor(OCI_LAYER, layer) for layer in layers],
        }
    )


OLD = image(LAYERS[0], LAYERS[1])
NEW = image(LAYERS[1], LAYERS[2])
OTHER = image(LAYERS[2])
INDEX = dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, content) for content in (OLD, OTHER)],
    }
)
SUBJECT = descriptor(OCI_MANIFEST, OLD)
SIGNED = artifact(SUBJECT, SIGNATURE, [descriptor(OCI_LAYER, LAYERS[0])])
SIGNED_TOO = artifact(SUBJECT, SIGNATURE, [descriptor(OCI_LAYER, LAYERS[1])])


def sent(registry: Registry, request: Request, status: int) -> Answer:
    """The answer, which a test has every reason to expect."""
    answer = registry.send(request)
    assert answer.status == status, f"{request.method} {request.url} was answered {answer}"
    assert answer.whole, f"{request.method} {request.url}"
    return answer


def get(path: str) -> Request:
    return Request("GET", path)


def begun(registry: Registry, name: str = APP) -> str:
    """The URL of a new upload."""
    answer = sent(registry, Request("POST", f"/v2/{name}/blobs/uploads/"), 202)
    return answer.headers["location"]


def closing(location: str, digest: str, content: bytes = b"") -> Request:
    return Request("PUT", f"{location}&digest={digest}", content)


def push_blob(registry: Registry, content: bytes, name: str = APP) -> None:
    sent(registry, closing(begun(registry, name), sha256(content), content), 201)


def manifest_put(content: bytes, reference: str, name: str = APP) -> Request:
    media_type = json.loads(content)["mediaType"]
    url = f"/v2/{name}/manifests/{reference}"
    return Request("PUT", url, content, {"Content-Type": media_type})


@dataclass
class Acknowledged:
    """What clients were told is stored. Keys are (repository, digest or tag).

    A tag may have several values while a request for it is under way; None is "absent".
    """

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    tags: dict[tuple[str, str], set[bytes | None]] = field(default_factory=dict)
    referrers: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def copy(self) -> Acknowledged:
        return copy.deepcopy(self)

    def problems(self, registry: Registry) -> Iterator[str]:
        """How the registry falls short of it, a sentence each."""
        for (name, digest), content in self.blobs.items():
            answer = registry.send(get(f"/v2/{name}/blobs/{digest}"))
            if (answer.status, answer.content, answer.whole) != (200, content, True):
                yield f"the blob {digest} of {name} is answered {answer}"
        for (name, digest), content in self.manifests.items():
            answer = registry.send(get(f"/v2/{name}/manifests/{digest}"))
            if (answer.status, answer.content) != (200, content):
                yield f"the manifest {digest} of {name} is answered {answer}"
        for (name, subject), expected in self.referrers.items():
            answer = registry.send(get(f"/v2/{name}/referrers/{subject}"))
            found = {each["digest"] for each in answer.json().get("manifests", [])}
            if answer.status != 200 or not expected <= found:
                yield f"the referrers of {subject} in {name} are answered {answer}"
        yield from self._problems_of_tags(registry)

    def _problems_of_tags(self, registry: Registry) -> Iterator[str]:
        listed: dict[str, list[str]] = {}
        for (name, tag), allowed in self.tags.items():
            if name not in listed:
                answer = registry.send(get(f"/v2/{name}/tags/list"))
                listed[name] = answer.json().get("tags", [])
                if answer.status != 200:
                    yield f"the tags of {name} are answered {answer}"
            answer = registry.send(get(f"/v2/{name}/manifests/{tag}"))
            found = None if answer.status == 404 else answer.content
            if answer.status not in {200, 404} or found not in allowed:
                yield f"the tag {tag} of {name} is answered {answer}"
            if (found is not None) != (tag in listed[name]):
                yield f"the tag {tag} of {name} is answered {answer}, and listed are {listed[name]}"


def fill(registry: Registry) -> Acknowledged:
    """Push two repositories of images, an index and an artifact with a subject."""
    known = Acknowledged()
    for name in (APP, LIB):
        for content in (EMPTY_JSON, *LAYERS):
            push_blob(registry, content, name)
            known.blobs[name, sha256(content)] = content
        for tag, content in (("stable", OLD), ("latest", OLD), ("other", OTHER)):
            sent(registry, manifest_put(content, tag, name), 201)
            known.manifests[name, sha256(content)] = content
            known.tags[name, tag] = {content}
    for content, tag in ((INDEX, "index"), (SIGNED, "signed")):
        sent(registry, manifest_put(content, tag), 201)
        known.manifests[APP, sha256(content)] = content
        known.tags[APP, tag] = {content}
    known.referrers[APP, sha256(OLD)] = {sha256(SIGNED)}
    known.referrers[LIB, sha256(OLD)] = set()
    return known
