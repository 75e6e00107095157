"""Requests of every kind put together by chance: each is answered, and none by a mistake of ours."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx

from storage.model import mediatype
from tests.support.registry import Registry, a_name, digest_of, with_query

REQUESTS = 400
BLOBS = [b"", b"{}", b"hello", bytes(70_000)]
DIGESTS = [digest_of(blob, name) for blob in BLOBS for name in ("sha256", "sha512")]
BAD_DIGESTS = ["sha256:0", "md5:" + "0" * 32, "x:y", "sha256%3A" + "0" * 64]
TAGS = ["latest", "v1", "_", ".x", "a" * 129, "%2e%2e", "sha256-" + "0" * 64]
TYPES = [*sorted(mediatype.MANIFESTS), "text/html", ""]
VALUES = [None, True, 0, -1, 2**63, 1.5, "", "x", [], {}, [None], {"digest": 1}, DIGESTS[0]]
FIELDS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "x",
]
ODD_HEADERS = [
    {"Content-Encoding": "gzip"},
    {"If-Match": "*"},
    {"If-Match": '"a","b"'},
    {"If-None-Match": "*"},
    {"Content-Range": "0-4"},
    {"Content-Range": "5-9"},
    {"Content-Range": "bytes 0-4/5"},
    {"Range": "bytes=1-2,3-4"},
    {"Range": "bytes=-0"},
    {"Forwarded": "for=1;proto=http;host=x"},
]


class Noise:
    """The same requests every time, but for the repository and the Locations that are answered."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self._random = random.Random(seed)
        self._names = names
        self._locations: list[str] = []

    def request(self) -> tuple[str, str, bytes, dict[str, str]]:
        pick = self._random.choice
        name = pick(self._names)
        body, headers = pick(BLOBS), pick(ODD_HEADERS) if self._random.random() < 0.3 else {}
        match pick(("manifest", "push", "blob", "begin", "upload", "upload", "list")):
            case "manifest":
                reference = pick(TAGS + DIGESTS + BAD_DIGESTS)
                return (
                    pick(("GET", "HEAD", "DELETE")),
                    f"{name}/manifests/{reference}",
                    b"",
                    headers,
                )
            case "push":
                body = self._manifest()
                reference = pick([*TAGS, digest_of(body), digest_of(body, "sha512"), *BAD_DIGESTS])
                query = pick(("", f"?tag={pick(TAGS)}", f"?tag={pick(TAGS)}&tag={pick(TAGS)}"))
                headers = {**headers, "Content-Type": pick(TYPES)}
                return "PUT", f"{name}/manifests/{reference}{query}", body, headers
            case "blob":
                where = f"{name}/blobs/{pick(DIGESTS + BAD_DIGESTS)}"
                return pick(("GET", "HEAD", "DELETE", "PUT")), where, b"", headers
            case "begin":
                digest, other = pick(DIGESTS + BAD_DIGESTS), pick(self._names)
                query = pick(("", f"digest={digest}", f"mount={digest}&from={other}"))
                return "POST", f"{name}/blobs/uploads/?{query}", body, headers
            case "upload" if self._locations:
                location = pick(self._locations[-8:]).removeprefix("/v2/")
                method = pick(("PATCH", "PATCH", "PUT", "PUT", "GET", "DELETE", "POST"))
                if method == "PUT":
                    location = with_query(location, digest=pick(DIGESTS))
                return method, location, b"" if method in {"GET", "DELETE"} else body, headers
        what = pick(("tags/list?n=1", "tags/list?last=%00", f"referrers/{pick(DIGESTS)}?n=1"))
        return pick(("GET", "OPTIONS", "PATCH")), f"{name}/{what}", b"", headers

    def learn(self, answer: httpx.Response) -> None:
        location = answer.headers.get("Location", "")
        if "/uploads/" in location:
            self._locations.append(location)

    def _manifest(self) -> bytes:
        pick = self._random.choice
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": pick(TYPES)}
        if self._random.random() < 0.5:
            document["manifests"] = self._descriptors()
        else:
            document |= {"config": pick(self._descriptors() or [{}]), "layers": self._descriptors()}
        for _ in range(pick((0, 0, 1, 2))):
            document[pick(FIELDS)] = pick(VALUES)
        content = json.dumps(document).encode()
        return content[: self._random.randrange(len(content))] if pick(range(20)) == 0 else content

    def _descriptors(self) -> list[dict[str, Any]]:
        pick = self._random.choice
        found = []
        for _ in range(pick(range(3))):
            blob = pick(BLOBS)
            about = {"mediaType": pick(TYPES), "digest": digest_of(blob), "size": len(blob)}
            if pick(range(5)) == 0:
                about[pick([*about])] = pick(VALUES)
            found.append(about)
        return found


def test_noise(registry: Registry) -> None:
    noise = Noise(11, [a_name("noise"), a_name("noise"), "UPPER", "a..b"])
    seen: set[int] = set()
    for _ in range(REQUESTS):
        method, target, body, headers = noise.request()
        answer = registry.ask(method, f"/v2/{target}", content=body or None, headers=headers)
        assert answer.status_code < 500, (method, target, body[:500], headers, answer.text)
        noise.learn(answer)
        seen.add(answer.status_code)
    assert {200, 201, 202, 204, 400, 404, 405, 415, 416} <= seen
