"""A client that does what docker does, one request at a time, and tells what it was answered."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return next((v for k, v in self.headers.items() if k.lower() == name), "")

    @property
    def next_path(self) -> str:
        """The Location without its host: the next request may go to another node."""
        parts = urllib.parse.urlsplit(self.header("location"))
        return urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))

    @property
    def message(self) -> str:
        try:
            return str(json.loads(self.body)["errors"][0]["message"])
        except (ValueError, KeyError, IndexError, TypeError):
            return repr(self.body[:200])


@dataclass(slots=True)
class Node:
    """One address of the registry, asked as a client would; redirects are not followed by itself."""

    url: str
    user: str = ""
    password: str = ""
    cafile: str | None = None
    _token: str = field(default="", init=False)

    def ask(self, method: str, path: str, body: bytes | None = None, *, kind: str = "") -> Answer:
        """`path` may be absolute, as a Location may. Raises OSError if nobody answers."""
        url = urllib.parse.urljoin(f"{self.url}/", path)
        answer = self._send(method, url, body, kind)
        challenge = answer.header("www-authenticate")
        if answer.status == 401 and challenge.lower().startswith("bearer ") and not self._token:
            self._token = self._fetch_token(challenge)
            if self._token:
                answer = self._send(method, url, body, kind)
            self._token = ""
        return answer

    def _send(self, method: str, url: str, body: bytes | None, kind: str) -> Answer:
        headers = {"User-Agent": "holdfast-doctor"}
        if kind:
            headers["Content-Type"] = kind
        if urllib.parse.urlsplit(url).netloc == urllib.parse.urlsplit(self.url).netloc:
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            elif self.user:
                headers["Authorization"] = _basic(self.user, self.password)
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310
        try:
            with _opener(self.cafile).open(request, timeout=_TIMEOUT) as answer:
                return Answer(answer.status, dict(answer.headers.items()), answer.read(1 << 20))
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers.items()), error.read(1 << 20))
        except http.client.HTTPException as error:
            raise OSError(f"it does not speak HTTP ({error!r})") from error

    def _fetch_token(self, challenge: str) -> str:
        fields = dict(re.findall(r'([a-z]+)="([^"]*)"', challenge))
        query = {name: fields[name] for name in ("service", "scope") if name in fields}
        url = f"{fields.get('realm', '')}?{urllib.parse.urlencode(query)}"
        headers = {"Authorization": _basic(self.user, self.password)} if self.user else {}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        try:
            with _opener(self.cafile).open(request, timeout=_TIMEOUT) as answer:
                content = json.loads(answer.read(1 << 20))
        except (urllib.error.URLError, ValueError):
            return ""
        return str(content.get("token") or content.get("access_token") or "")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _opener(cafile: str | None) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cafile=cafile or os.environ.get("SSL_CERT_FILE"))
    return urllib.request.build_opener(_Stay, urllib.request.HTTPSHandler(context=context))
