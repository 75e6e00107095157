"""The API as it answers: requests of every kind, the content they push, what each answer has to satisfy.

Unlike `api.Api`, which fails a test for any answer that a client does not hope for, this hands back what
came, so that refusals can be looked at.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import httpx

from storage import layout
from storage.model import mediatype

T = TypeVar("T")

CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FRESH_CONNECTIONS = 10
"""So many that connections of their own reach each of two workers, but for one time in a thousand."""

TRUST = ssl.create_default_context()
"""Read once: there may be a client for each of a hundred threads."""


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def a_name(stem: str = "repo") -> str:
    """A repository that no other test has."""
    return f"test/{stem}-{uuid.uuid4().hex[:12]}"


def some_bytes(size: int = 32) -> bytes:
    return os.urandom(size)


@dataclass(frozen=True, slots=True)
class Blob:
    data: bytes
    media_type: str = LAYER
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        return digest_of(self.data, self.algorithm)

    def descriptor(self, **more: Any) -> dict[str, Any]:
        about = {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}
        return {**about, **more}


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest, with the blobs it needs."""

    content: bytes
    media_type: str
    blobs: tuple[Blob, ...] = ()
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        return digest_of(self.content, self.algorithm)

    def descriptor(self, **more: Any) -> dict[str, Any]:
        return Blob(self.content, self.media_type, self.algorithm).descriptor(**more)


def image(
    *layers: bytes,
    config: Blob | None = None,
    media_type: str = mediatype.OCI_MANIFEST,
    algorithm: str = "sha256",
    **fields: Any,
) -> Document:
    """A manifest that nobody has pushed yet, unless `config` says which it is."""
    config = config or Blob(json.dumps({"id": uuid.uuid4().hex}).encode(), CONFIG, algorithm)
    blobs = [Blob(layer, algorithm=algorithm) for layer in layers]
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(),
        "layers": [blob.descriptor() for blob in blobs],
        **fields,
    }
    return Document(json.dumps(document).encode(), media_type, (config, *blobs), algorithm)


def index(
    *children: Document,
    media_type: str = mediatype.OCI_INDEX,
    algorithm: str = "sha256",
    **fields: Any,
) -> Document:
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [child.descriptor() for child in children],
        **fields,
    }
    return Document(json.dumps(document).encode(), media_type, (), algorithm)


@dataclass
class Registry:
    """The API at `url`. Redirects are never followed."""

    url: str
    root: Path | None = None
    """The storage's directory, where there is one."""
    balancer: str = ""
    """What stands between, if anything does: it refuses by itself what is no HTTP."""
    in_bucket: bool = False
    """The storage is one where each question costs a request. So an upload may have two writers, whose
    Locations are two uploads from then on; only the process that ended it knows that it has ended; what
    a failed closing request brought is lost; and a deleted manifest can be pulled by digest for a while.
    """
    _clients: dict[int, httpx.Client] = field(init=False, default_factory=dict)

    @property
    def http(self) -> httpx.Client:
        """That of this thread alone, or of one that has ended before.

        A client that threads share closes idle connections without a lock, now and then one that another
        thread has just been given. The number of its descriptor is soon that of another connection, and
        then poll() waits there, until the time is over, for an answer that has long come.
        """
        thread = threading.get_ident()
        if thread not in self._clients:
            self._clients[thread] = httpx.Client(base_url=self.url, timeout=60, verify=TRUST)
        return self._clients[thread]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Behind a balancer, Location has to lead there; without that it is what a node alone says."""
        response = self.http.request(method, path, **options)
        if self.balancer and "Location" in response.headers:
            assert response.headers["Location"].startswith(f"{self.url}/v2/")
            response.headers["Location"] = response.headers["Location"].removeprefix(self.url)
        return response

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("GET", path, **options)

    def everywhere(self, method: str, path: str) -> Iterator[httpx.Response]:
        """The same question on connections of their own, so that every worker is asked."""
        for _ in range(FRESH_CONNECTIONS):
            yield self.ask(method, path, headers={"Connection": "close"})

    def start(self, name: str, **parameters: str) -> str:
        """A new upload; its Location. `_` in a parameter's name stands for `-`."""
        given = {key.replace("_", "-"): value for key, value in parameters.items()}
        query = f"?{urlencode(given)}" if given else ""
        response = self.ask("POST", f"/v2/{name}/blobs/uploads/{query}")
        assert response.status_code == 202, response.text
        location: str = response.headers["Location"]
        return location

    def patch(
        self, location: str, data: bytes | Iterator[bytes], start: int | None = None
    ) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"}
        if start is not None:
            assert isinstance(data, bytes)
            headers["Content-Range"] = f"{start}-{start + len(data) - 1}"
        return self.ask("PATCH", location, content=data, headers=headers)

    def finish(
        self, location: str, digest: str, data: bytes = b"", **options: Any
    ) -> httpx.Response:
        return self.ask("PUT", with_query(location, digest=digest), content=data, **options)

    def push_blob(self, name: str, blob: Blob | bytes) -> Blob:
        """POST, then PUT with everything."""
        if isinstance(blob, bytes):
            blob = Blob(blob)
        response = self.finish(self.start(name), blob.digest, blob.data)
        assert response.status_code == 201, response.text
        return blob

    def put_manifest(
        self, name: str, reference: str, document: Document, **headers: str
    ) -> httpx.Response:
        """`_` in a header's name stands for `-`; Content-Type is the document's unless given."""
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.ask(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            content=document.content,
            headers={"Content-Type": document.media_type, **given},
        )

    def push(self, name: str, reference: str, document: Document) -> Document:
        """The blobs, then the manifest."""
        for blob in document.blobs:
            self.push_blob(name, blob)
        response = self.put_manifest(name, reference, document)
        assert response.status_code == 201, response.text
        return document

    def push_image(self, name: str, reference: str, *layers: bytes, **fields: Any) -> Document:
        return self.push(name, reference, image(*layers, **fields))

    def tags(self, name: str) -> list[str]:
        response = self.get(f"/v2/{name}/tags/list")
        assert response.status_code == 200, response.text
        tags: list[str] = response.json()["tags"]
        return tags

    def raw(self, *pieces: bytes) -> RawResponse:
        """Send bytes as they are, which no HTTP library would, and read one response."""
        with connect(self.url) as connection:
            for piece in pieces:
                connection.sendall(piece)
            return receive(connection, pieces[0].split(b" ", 1)[0].decode())

    def files(self, *, uploads: bool = True) -> dict[str, tuple[int, int]]:
        """Every object of the tree with its size and time, but for what writing leaves in passing."""
        if self.root is None:
            return {}
        top = self.root / layout.ROOT
        found = {}
        for path in sorted(top.rglob("*")):
            parts = path.relative_to(top).parts
            if parts[0] == "holdfast" or (not uploads and layout.UPLOADS in parts):
                continue
            if path.is_file():
                status = path.stat()
                found["/".join(parts)] = (status.st_size, status.st_mtime_ns)
        return found

    @contextmanager
    def nothing_stored(self, *, uploads: bool = True) -> Iterator[None]:
        """The tree is the same afterwards, file by file; with `uploads=False`, apart from uploads."""
        before = self.files(uploads=uploads)
        yield
        assert self.files(uploads=uploads) == before


class Serving(Protocol):
    """Starts a server of a test's own; keywords are sections of its configuration."""

    def __call__(
        self, *, driver: str = "filesystem", workers: int = 1, **config: Any
    ) -> AbstractContextManager[Registry]: ...


def with_query(location: str, **parameters: str) -> str:
    """As clients have to do it: the Location may have a query already."""
    return f"{location}{'&' if '?' in location else '?'}{urlencode(parameters)}"


@dataclass(frozen=True, slots=True)
class RawResponse:
    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


def connect(url: str) -> socket.socket:
    parts = httpx.URL(url)
    assert parts.port is not None
    connection = socket.create_connection((parts.host, parts.port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, method: str) -> RawResponse:
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    content = response.read()
    return RawResponse(response.status, httpx.Headers(response.getheaders()), content)


def first_status(url: str, head: bytes) -> int:
    """That of the first answer, 100 Continue included, to a head after which nothing is sent."""
    with connect(url) as connection:
        connection.sendall(head)
        line = connection.makefile("rb").readline()
        assert line.startswith(b"HTTP/1.1 "), line
        return int(line.split(b" ", 2)[1])


def request_head(method: str, target: str, **headers: str | int) -> bytes:
    """`_` in a header's name stands for `-`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\nHost: registry\r\n{lines}\r\n".encode("latin-1")


def refused(response: httpx.Response | RawResponse, status: int, code: str) -> str:
    """Assert that `response` is an OCI error envelope as people want it; the message of the first."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["Content-Type"] == "application/json"
    document = response.json()
    assert list(document) == ["errors"]
    assert document["errors"]
    for error in document["errors"]:
        assert set(error) <= {"code", "message", "detail"}
        assert error["code"] == code, error
        assert is_sentence(error["message"]), error["message"]
        assert layout.ROOT not in json.dumps(error)
    message: str = document["errors"][0]["message"]
    return message


def is_sentence(text: str) -> bool:
    return text[:1].isupper() and text.rstrip(")").endswith((".", '".', "..."))


def together(count: int, operation: Callable[[int], T]) -> Sequence[T]:
    """`operation(0)` to `operation(count - 1)` all at once, released by one barrier."""
    barrier = threading.Barrier(count)

    def one(number: int) -> T:
        barrier.wait(30)
        return operation(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
