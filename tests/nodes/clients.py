"""A client of a registry that is as stubborn as the real ones: what fails on the way it does again.

It asks anew what it can ask anew, and begins an upload anew that it cannot go on with. It believes a
201 and nothing else, and every pull is checked by digest.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import httpx

from tests.support.images import sha256
from tests.support.registry import Blob, Document, with_query

ATTEMPTS = 10
PAUSE = 0.25
"""Seconds before the second attempt, and so much more before each that follows."""
PIECE = 64 * 1024

Sending = Callable[[bytes], Iterator[bytes]]
Receiving = Callable[[Iterator[bytes]], bytes]


class Refused(Exception):
    """An answer that a client cannot do with."""


def pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


def joined(parts: Iterator[bytes]) -> bytes:
    return b"".join(parts)


@dataclass
class Stubborn:
    """One client, for one thread. `attempts` as 1 makes it give up at the first failure."""

    url: str
    attempts: int = ATTEMPTS
    sending: Sending = pieces
    """How the bytes of a blob come."""
    receiving: Receiving = joined
    failures: list[str] = field(default_factory=list)
    """What it met and got over."""
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=60, follow_redirects=True)

    def close(self) -> None:
        self.http.close()

    def push(self, name: str, tag: str, document: Document) -> None:
        for blob in document.blobs:
            self._again(partial(self._push_blob, name, blob), f"push of {blob.digest}")
        self._again(partial(self._push_manifest, name, tag, document), f"push of {name}:{tag}")

    def pull(self, name: str, tag: str, document: Document) -> None:
        """Fails unless it is `document`, to the last byte."""
        self._again(partial(self._pull_manifest, name, tag, document), f"pull of {name}:{tag}")
        for blob in document.blobs:
            self._again(partial(self._pull_blob, name, blob), f"pull of {blob.digest}")

    def delete(self, name: str, reference: str) -> None:
        """A tag or a manifest; that it is gone is as good."""
        self._again(partial(self._delete, name, reference), f"delete of {name}:{reference}")

    def _delete(self, name: str, reference: str) -> None:
        answer = self.http.delete(f"/v2/{name}/manifests/{reference}")
        if answer.status_code != 404:
            _expect(answer, 202)

    def _again(self, operation: Callable[[], None], what: str) -> None:
        for attempt in itertools.count(1):
            try:
                return operation()
            except (httpx.TransportError, Refused) as error:
                self.failures.append(f"{what}: {type(error).__name__} {error}")
                if attempt >= self.attempts:
                    raise AssertionError("\n".join(self.failures)) from error
            time.sleep(PAUSE * attempt)
        raise AssertionError("itertools.count() has no end")

    def _push_blob(self, name: str, blob: Blob) -> None:
        head = self.http.head(f"/v2/{name}/blobs/{blob.digest}")
        if head.status_code == 200:
            return
        _expect(head, 404)
        begun = _expect(self.http.post(f"/v2/{name}/blobs/uploads/"), 202)
        sent = _expect(
            self.http.patch(begun.headers["Location"], content=self.sending(blob.data)), 202
        )
        closing = with_query(sent.headers["Location"], digest=blob.digest)
        _expect(self.http.put(closing), 201)

    def _push_manifest(self, name: str, tag: str, document: Document) -> None:
        answer = self.http.put(
            f"/v2/{name}/manifests/{tag}",
            content=document.content,
            headers={"Content-Type": document.media_type},
        )
        _expect(answer, 201)

    def _pull_manifest(self, name: str, tag: str, document: Document) -> None:
        answer = _expect(self.http.get(f"/v2/{name}/manifests/{tag}"), 200)
        assert answer.content == document.content

    def _pull_blob(self, name: str, blob: Blob) -> None:
        with self.http.stream("GET", f"/v2/{name}/blobs/{blob.digest}") as answer:
            if answer.status_code != 200:
                answer.read()
            _expect(answer, 200)
            content = self.receiving(answer.iter_raw(PIECE))
        assert sha256(content) == blob.digest


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    if answer.status_code != status:
        asked = f"{answer.request.method} {answer.request.url.path}"
        raise Refused(f"{asked} was answered {answer.status_code}: {answer.text}")
    return answer
