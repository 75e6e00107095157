"""Reading a small document from another server: bounded in size and time, and from that server alone.

Only https, or http on a loopback address; no redirect to another origin; no other scheme that urllib
knows. Credentials are never sent. Blocks: call it in a thread.
"""

from __future__ import annotations

import http.client
import ipaddress
import ssl
import time
import urllib.error
import urllib.request
from typing import IO, Final
from urllib.parse import SplitResult, urlsplit

TIMEOUT: Final = 5.0
LIMIT: Final = 1024 * 1024

_REDIRECTS: Final = 3
_PORTS: Final = {"http": 80, "https": 443}


class FetchFailed(Exception):
    """The text says why, to be put after the URL."""


def check_url(url: str) -> str:
    """`url` itself. Raises ValueError, a sentence, unless fetch() may be asked for it."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{url!r} is not a URL.") from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in _PORTS or not host or not plain or "@" in parts.netloc:
        raise ValueError(f"{url!r} is not an https URL without credentials in it.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError(f"{url!r} must begin with https://; http is only for a loopback address.")
    return url


def fetch(
    url: str, *, timeout: float = TIMEOUT, limit: int = LIMIT, cafile: str | None = None
) -> bytes:
    """The body of a 200. `cafile` replaces the system's trusted authorities. Raises FetchFailed."""
    try:
        check_url(url)
        opener = _opener(url, cafile)
    except (ValueError, OSError) as error:
        raise FetchFailed(f"cannot be asked for: {error}") from error
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked
    deadline = time.monotonic() + timeout
    try:
        with opener.open(request, timeout=timeout) as response:
            if response.status != http.client.OK:
                raise FetchFailed(f"answers {response.status}")
            return _read(response, deadline, limit)
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchFailed(f"answers {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise FetchFailed(f"cannot be reached: {reason}") from error


def _read(response: http.client.HTTPResponse, deadline: float, limit: int) -> bytes:
    body = bytearray()
    while piece := response.read1(65536):
        body += piece
        if len(body) > limit:
            raise FetchFailed(f"answers with more than {limit} bytes")
        if time.monotonic() > deadline:
            raise FetchFailed("answers too slowly")
    if response.length:
        raise FetchFailed("breaks off in the middle of its answer")
    return bytes(body)


def _opener(url: str, cafile: str | None) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameOrigin(),
    ]
    if urlsplit(url).scheme == "https":
        context = ssl.create_default_context(cafile=cafile)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        handlers += [urllib.request.HTTPSHandler(context=context)]
    else:
        handlers += [urllib.request.HTTPHandler()]
    if not _is_loopback(urlsplit(url).hostname or ""):
        # A proxy of the environment is reached in plain HTTP, and asked for a tunnel.
        handlers += [urllib.request.ProxyHandler(), urllib.request.HTTPHandler()]
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    max_redirections = _REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if _origin(urlsplit(newurl)) != _origin(urlsplit(req.full_url)):
            raise FetchFailed("redirects to another server, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
