"""An S3 server that has any number of keys and hardly any bytes: for what listings cost at scale.

A real store takes half an hour to be filled with half a million objects. Here the keys are a sorted list,
and a page is cut out of it by bisection, with delimiter, start-after and continuation as Amazon describes
them. Signatures are not looked at; every object there at the start has the same content.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tests.support.s3 import S3Store
from tests.support.s3proxy import operation

BUCKET: Final = "keys"
_DATE: Final = "2026-01-01T00:00:00.000Z"
_LAST: Final = "\U0010ffff"
_PAGE: Final = 1000
_DELETED: Final = re.compile(r"<Key>([^<]*)</Key>")


class S3Keys:
    """`store` is how a client speaks to it. The list of keys is in byte order, as S3 has it."""

    def __init__(self, keys: Iterable[str], content: bytes) -> None:
        self.keys = sorted(keys)  # ASCII, where the order of code points is that of bytes
        self.content = content
        self._written: dict[str, bytes] = {}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.store = S3Store(
            name="keys",
            endpoint=f"http://127.0.0.1:{self._server.server_address[1]}",
            access_key="holdfast",
            secret_key="holdfast",
        )

    def counts(self) -> dict[str, int]:
        """Requests by operation, since the last time."""
        with self._lock:
            counts, self._counts = dict(self._counts), Counter()
        return counts

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, operation: str) -> None:
        with self._lock:
            self._counts[operation] += 1

    def has(self, key: str) -> bool:
        place = bisect.bisect_left(self.keys, key)
        return place < len(self.keys) and self.keys[place] == key

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._written.get(key, self.content) if self.has(key) else None

    def put(self, key: str, content: bytes) -> None:
        with self._lock:
            if not self.has(key):
                bisect.insort(self.keys, key)
            self._written[key] = content

    def delete(self, *keys: str) -> None:
        with self._lock:
            for key in filter(self.has, keys):
                del self.keys[bisect.bisect_left(self.keys, key)]

    def page(self, prefix: str, delimiter: str, after: str) -> tuple[list[tuple[str, bool]], str]:
        """At most a page's names, whether each is a prefix, and what to go on after: "" at the end."""
        found: list[tuple[str, bool]] = []
        with self._lock:
            place = bisect.bisect_right(self.keys, after) if after > prefix else 0
            place = max(place, bisect.bisect_left(self.keys, prefix))
            while place < len(self.keys) and self.keys[place].startswith(prefix):
                if len(found) == _PAGE:
                    last, is_prefix = found[-1]
                    return found, last + _LAST if is_prefix else last
                key = self.keys[place]
                head, cut, _ = key[len(prefix) :].partition(delimiter or "\0")
                if cut:
                    name = prefix + head + cut
                    place = bisect.bisect_left(self.keys, name + _LAST, place)
                    if name > after:  # start-after may be below it
                        found.append((name, True))
                else:
                    found.append((key, False))
                    place += 1
        return found, ""

    def size(self, key: str) -> int:
        return len(self._written.get(key, self.content))


@contextlib.contextmanager
def s3_keys(keys: Iterable[str], content: bytes) -> Iterator[S3Keys]:
    server = S3Keys(keys, content)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, keys: S3Keys) -> None:
        self.keys = keys
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _any(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        key = unquote(url.path).lstrip("/").partition("/")[2]
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        keys = self.server.keys
        asked = operation(self.command, key, query, headers)
        keys.count(asked)
        match asked:
            case "ListObjectsV2":
                self._answer(200, _listing(keys, query))
            case "ListMultipartUploads":
                self._answer(200, b"<ListMultipartUploadsResult/>")
            case "HeadBucket":
                self._answer(200)
            case "HeadObject" | "GetObject":
                self._object(keys.get(key), headers.get("range", ""))
            case "PutObject":
                keys.put(key, body)
                self._answer(200)
            case "DeleteObject":
                keys.delete(key)
                self._answer(204)
            case "DeleteObjects":
                keys.delete(*_DELETED.findall(body.decode()))
                self._answer(200, b"<DeleteResult/>")
            case _:
                self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - called by these names

    def _object(self, content: bytes | None, span: str) -> None:
        if content is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        start, _, end = span.removeprefix("bytes=").partition("-")
        if not span:
            return self._answer(200, content)
        part = content[int(start) : int(end) + 1 if end else None]
        last = int(start) + len(part) - 1
        return self._answer(206, part, ("Content-Range", f"bytes {start}-{last}/{len(content)}"))

    def _answer(self, status: int, body: bytes = b"", *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Length", str(len(body))),
            ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("ETag", '"keys"'),
            *headers,
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        """Nothing: what was asked is counted."""


def _listing(keys: S3Keys, query: dict[str, str]) -> bytes:
    prefix = query.get("prefix", "")
    after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
    names, next_after = keys.page(prefix, query.get("delimiter", ""), after)
    parts = [f"<ListBucketResult><IsTruncated>{str(bool(next_after)).lower()}</IsTruncated>"]
    if next_after:
        parts.append(f"<NextContinuationToken>{quote(next_after)}</NextContinuationToken>")
    parts += _entries(keys, names)
    return "".join([*parts, "</ListBucketResult>"]).encode()


def _entries(keys: S3Keys, names: Sequence[tuple[str, bool]]) -> Iterator[str]:
    for name, is_prefix in names:
        if is_prefix:
            yield f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
        else:
            yield (
                f"<Contents><Key>{quote(name)}</Key><LastModified>{_DATE}</LastModified>"
                f"<Size>{keys.size(name)}</Size></Contents>"
            )
