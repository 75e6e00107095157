"""Who a request comes from, and by which address the client reached us.

Any client can write `Host`, `Forwarded` (RFC 7239) and `X-Forwarded-*`. They are believed only when
the peer of the connection is a trusted proxy; everything malformed in them counts as absent.

A proxy that writes one family of headers passes the client's own header of the other family on, and
we cannot tell which is which. So where a request has both, only what they agree on is believed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

ORIGIN: Final = "holdfast.origin"
"""The key of the ASGI scope under which the middleware leaves the Origin for Links."""

UNIX: Final = "unix"
"""Stands among the trusted networks for peers on a Unix socket."""

_FAMILIES: Final = frozenset(
    (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"host")
)
_NAME = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?", re.ASCII)
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?", re.ASCII)
_NODE = re.compile(
    r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9.]{7,15})(?::[0-9]{1,5})?", re.ASCII
)

# RFC 7239 section 4: a pair, and what may come after it.
_CHARACTERS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(
    rf"""[ \t]*({_CHARACTERS})=(?:({_CHARACTERS})|"((?:[^"\\]|\\.)*)")[ \t]*([;,]|\Z)""", re.ASCII
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from.

    `client` is an address without a port, or "" if there is none (a Unix socket). `host` is the
    authority that the client used; it is None unless a trusted proxy told us it and the scheme.
    """

    client: str
    scheme: str
    host: str | None
    trusted: bool


class TrustedProxies:
    """The proxies whose headers are believed.

    `networks` are addresses, networks (`10.0.0.0/8`) or `unix`; `hosts`, unless empty, the only
    authorities (`registry.example.com`, `registry.example.com:5000`) that are believed. Raises
    ValueError with a sentence for anything else.
    """

    def __init__(self, networks: Sequence[str], hosts: Sequence[str]) -> None:
        self._networks = tuple(_network(text) for text in networks if text != UNIX)
        self._unix = UNIX in networks
        self._hosts = frozenset(_listed_host(text) for text in hosts)
        # An address is asked about with every request, and there are few proxies.
        self._trusts = lru_cache(maxsize=1024)(self._contains)

    def client_of(self, scope: Mapping[str, Any]) -> Origin:
        peer = scope.get("client")
        address = str(peer[0]) if peer else ""
        scheme = str(scope.get("scheme", "http"))
        if not (self._trusts(address) if address else self._unix):
            return Origin(address, scheme, None, False)
        return self._behind_proxy(scope, address, scheme)

    def _behind_proxy(self, scope: Mapping[str, Any], peer: str, scheme: str) -> Origin:
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name in _FAMILIES:
                headers.setdefault(name, []).append(value.decode("latin-1"))
        told = _agreed(self._forwarded(headers), self._x_forwarded(headers))
        proto = _scheme(told.get("proto", ""))
        host = None
        if proto:
            host = self._host(
                told["host"] if "host" in told else ",".join(headers.get(b"host", []))
            )
        return Origin(told.get("for", "") or peer, proto or scheme, host, True)

    def _forwarded(self, headers: Mapping[bytes, list[str]]) -> dict[str, str] | None:
        if b"forwarded" not in headers:
            return None
        elements = list(_elements(", ".join(headers[b"forwarded"])))
        if not elements:
            return None
        hops = [_address(element.get("for", "")) for element in elements]
        position = self._outermost(hops)
        element = elements[position]
        told: dict[str, str] = {key: element[key] for key in ("proto", "host") if key in element}
        if hop := hops[position]:
            told["for"] = str(hop)
        return told or None

    def _x_forwarded(self, headers: Mapping[bytes, list[str]]) -> dict[str, str] | None:
        told: dict[str, str] = {}
        for name, key in ((b"x-forwarded-proto", "proto"), (b"x-forwarded-host", "host")):
            if name in headers:
                told[key] = headers[name][0].split(",", 1)[0].strip()
        if b"x-forwarded-for" in headers:
            texts = ",".join(headers[b"x-forwarded-for"]).split(",")
            hops = [_address(text.strip()) for text in texts]
            if hop := hops[self._outermost(hops)]:
                told["for"] = str(hop)
        return told or None

    def _outermost(self, hops: Sequence[Address | None]) -> int:
        """The hop that the outermost trusted proxy saw: from the right, the first not trusted.

        What stands left of it was written by somebody we do not know.
        """
        for position in range(len(hops) - 1, 0, -1):
            hop = hops[position]
            if hop is None or not self._trusts(str(hop)):
                return position
        return 0

    def _host(self, text: str) -> str | None:
        host = text.lower()
        if not _is_authority(host) or (self._hosts and host not in self._hosts):
            return None
        return host

    def _contains(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


class Links:
    """Writes the URLs of `Location` headers.

    An address that a client can choose never gets into one. Of these the first that is known:

    1. `relative`: the path alone;
    2. `host` (http.host): a URL whose path, if it has one, replaces the prefix, or a bare authority,
       which gets the scheme of the request;
    3. what a trusted proxy said, if it named the scheme; without a forwarded host, its Host;
    4. the path alone. Distribution writes an absolute URL from Host here; a relative one is as valid
       (RFC 9110 section 10.2.2), and docker, podman, skopeo and containerd follow it.

    `prefix` is http.prefix. Raises ValueError with a sentence for a `host` or `prefix` that is
    neither of these.
    """

    def __init__(self, host: str | None, relative: bool, prefix: str) -> None:
        self._prefix = self._prefix_of_host = _prefix(prefix)
        self._scheme = self._authority = ""
        if host:
            self._scheme, self._authority, path = _configured(host)
            self._prefix_of_host = path or self._prefix
        self._relative = relative

    @property
    def prefix(self) -> str:
        """Below which path clients find the registry: "" or without a slash at its end."""
        return self._prefix_of_host

    def path(self, path: str) -> str:
        """`path` below the prefix, for a Link to another page of the same list."""
        return (self._prefix if self._relative else self._prefix_of_host) + path

    def base(self, scope: Mapping[str, Any]) -> str:
        """Scheme and authority of this registry, where an absolute URL is needed: for the realm.

        As for a Location, no client can choose it; where nothing better is known it is the address
        that the connection came to. "" over a Unix socket.
        """
        if self._authority:
            scheme = self._scheme or scope[ORIGIN].scheme
            return f"{scheme}://{self._authority}"
        origin: Origin = scope[ORIGIN]
        if origin.host is not None:
            return f"{origin.scheme}://{origin.host}"
        server = scope.get("server")
        if not server or server[1] is None:
            return ""
        host = f"[{server[0]}]" if ":" in server[0] else server[0]
        return f"{origin.scheme}://{host}:{server[1]}"

    def location(self, scope: Mapping[str, Any], path: str) -> str:
        """The URL of `path`: encoded, with its query, beginning with `/` and without the prefix."""
        if self._relative:
            return self._prefix + path
        origin: Origin | None = scope.get(ORIGIN)
        if self._authority:
            scheme = self._scheme or (origin.scheme if origin else str(scope.get("scheme", "http")))
            return f"{scheme}://{self._authority}{self._prefix_of_host}{path}"
        if origin is None or origin.host is None:
            return self._prefix + path
        return f"{origin.scheme}://{origin.host}{self._prefix}{path}"


def _agreed(one: dict[str, str] | None, other: dict[str, str] | None) -> Mapping[str, str]:
    if one is None or other is None:
        return one or other or {}
    # A contradicted host is "" rather than absent, or else Host would step in for it.
    return {
        name: one[name] if one.get(name, "").lower() == other.get(name, "").lower() else ""
        for name in one.keys() | other.keys()
    }


def _elements(text: str) -> Iterator[dict[str, str]]:
    """The elements of a Forwarded header, from the client's to the nearest proxy's; none if malformed."""
    found: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None or match[1].lower() in found[-1]:
            return
        value = match[2] if match[3] is None else re.sub(r"\\(.)", r"\1", match[3])
        found[-1][match[1].lower()] = value
        position = match.end()
        if match[4] == ",":
            found.append({})
        if match[4] and position >= len(text):
            return
    yield from found


def _scheme(text: str) -> str:
    lowered = text.lower()
    return lowered if lowered in ("http", "https") else ""


def _address(text: str) -> Address | None:
    """An address with or without a port; an IPv4 address that is dressed as IPv6 is undressed."""
    match = _NODE.fullmatch(text)
    try:
        address = ipaddress.ip_address((match[1] or match[2]) if match else text[:64])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_authority(text: str) -> bool:
    match = _BRACKETED.fullmatch(text)
    if match is None:
        return _NAME.fullmatch(text) is not None
    return _address(match[1]) is not None


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"A trusted proxy is an address, a network such as 10.0.0.0/8, or 'unix'; {text!r} is "
            f"not ({error})."
        ) from None


def _listed_host(text: str) -> str:
    if not _is_authority(text.lower()):
        raise ValueError(
            f"A trusted host is a name or address with or without a port; {text!r} is not."
        )
    return text.lower()


def _prefix(text: str) -> str:
    stripped = text.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", stripped, re.ASCII):
        raise ValueError(f"http.prefix is a path such as /registry/; {text!r} is not.")
    return f"/{stripped}" if stripped else ""


def _configured(text: str) -> tuple[str, str, str]:
    """Scheme ("" if not given), authority and path (without a slash at its end) of http.host."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    scheme, path = _scheme(parts.scheme), parts.path.rstrip("/")
    unwanted = parts.query or parts.fragment or (parts.scheme and not scheme)
    if unwanted or not _is_authority(parts.netloc.lower()) or not _is_path(path):
        raise ValueError(
            f"http.host is a URL such as https://registry.example.com; {text!r} is not."
        )
    return scheme, parts.netloc, path


def _is_path(text: str) -> bool:
    return re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)*", text, re.ASCII) is not None
