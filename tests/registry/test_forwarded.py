"""Whose word is taken for where a request comes from, and what gets into a Location."""

from __future__ import annotations

from typing import Any

import pytest

from registry.forwarded import ORIGIN, Links, Origin, TrustedProxies

PROXY = "10.0.0.1"
STRANGER = "203.0.113.9"


def scope(
    *headers: tuple[str, str], peer: str | None = PROXY, scheme: str = "http"
) -> dict[str, Any]:
    return {
        "type": "http",
        "scheme": scheme,
        "client": (peer, 4711) if peer is not None else None,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }


@pytest.fixture
def proxies() -> TrustedProxies:
    return TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48"], [])


HOSTILE = [
    ("Host", "evil.example"),
    ("Forwarded", "for=192.0.2.1;proto=https;host=evil.example"),
    ("X-Forwarded-For", "192.0.2.1"),
    ("X-Forwarded-Proto", "javascript"),
    ("X-Forwarded-Host", "evil.example"),
]


def test_a_stranger_is_believed_nothing(proxies: TrustedProxies) -> None:
    origin = proxies.client_of(scope(*HOSTILE, peer=STRANGER))
    assert origin == Origin(STRANGER, "http", None, False)


@pytest.mark.parametrize("peer", [STRANGER, None, "", "not an address", "10.0.0.1.evil"])
def test_nothing_of_a_stranger_gets_into_a_location(
    proxies: TrustedProxies, peer: str | None
) -> None:
    request = scope(*HOSTILE, peer=peer)
    request[ORIGIN] = proxies.client_of(request)
    assert Links(None, False, "").location(request, "/v2/a/blobs/x") == "/v2/a/blobs/x"
    links = Links("https://registry.example.com", False, "")
    assert links.location(request, "/v2/") == "https://registry.example.com/v2/"
    assert Links("registry.example.com", False, "").location(request, "/v2/") == (
        "http://registry.example.com/v2/"
    )


def test_without_any_proxy_nobody_is_believed() -> None:
    origin = TrustedProxies([], []).client_of(scope(*HOSTILE))
    assert origin == Origin(PROXY, "http", None, False)


BELIEVED: list[tuple[list[tuple[str, str]], Origin]] = [
    ([], Origin(PROXY, "http", None, True)),
    (
        [("Forwarded", 'for=192.0.2.1;proto=https;host="r.example:8443"')],
        Origin("192.0.2.1", "https", "r.example:8443", True),
    ),
    (
        [("Forwarded", 'For="[2001:db8::1]:4711" ; Proto=HTTPS ; HOST=R.example')],
        Origin("2001:db8::1", "https", "r.example", True),
    ),
    (
        [
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "r.example"),
        ],
        Origin("192.0.2.1", "https", "r.example", True),
    ),
    # Host serves when the proxy names the scheme and passes Host on, and only then.
    (
        [("X-Forwarded-Proto", "https"), ("Host", "r.example:5000")],
        Origin(PROXY, "https", "r.example:5000", True),
    ),
    ([("Host", "r.example")], Origin(PROXY, "http", None, True)),
    ([("X-Forwarded-Host", "r.example")], Origin(PROXY, "http", None, True)),
    # Several hops: the right-most that is no trusted proxy; left of it anything may stand.
    (
        [("X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.9.9.9")],
        Origin("192.0.2.1", "http", None, True),
    ),
    (
        [("X-Forwarded-For", "6.6.6.6, 192.0.2.1"), ("X-Forwarded-For", "10.9.9.9:80")],
        Origin("192.0.2.1", "http", None, True),
    ),
    (
        [
            (
                "Forwarded",
                "for=6.6.6.6;host=evil;proto=http, for=192.0.2.1;proto=https;host=r.example, "
                "for=10.9.9.9;proto=http;host=inner",
            )
        ],
        Origin("192.0.2.1", "https", "r.example", True),
    ),
    ([("X-Forwarded-For", "10.1.1.1, 10.2.2.2")], Origin("10.1.1.1", "http", None, True)),
    ([("X-Forwarded-For", "::ffff:192.0.2.1")], Origin("192.0.2.1", "http", None, True)),
    ([("X-Forwarded-For", "6.6.6.6, unknown")], Origin(PROXY, "http", None, True)),
    ([("Forwarded", "for=_hidden, for=unknown")], Origin(PROXY, "http", None, True)),
    (
        [("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Host", "r.example, inner")],
        Origin(PROXY, "https", "r.example", True),
    ),
    (
        [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "[2001:db8::5]:443")],
        Origin(PROXY, "https", "[2001:db8::5]:443", True),
    ),
]


@pytest.mark.parametrize(("headers", "expected"), BELIEVED)
def test_a_trusted_proxy_is_believed(
    proxies: TrustedProxies, headers: list[tuple[str, str]], expected: Origin
) -> None:
    assert proxies.client_of(scope(*headers)) == expected


MALFORMED: list[str] = [
    "",
    ";",
    ",",
    "for",
    "for=",
    "for=192.0.2.1;",
    "for=192.0.2.1,",
    "for=192.0.2.1;for=192.0.2.2",
    "for=192.0.2.1:80",
    'for="192.0.2.1',
    "for =192.0.2.1",
    "for=192.0.2.1;host=a b;proto=https",
    "for=999.0.2.1",
    'for="[2001:db8::zz]"',
    "for=192.0.2.1\x0b",
    "x" * 10_000,
    '"' * 10_000,
    "for=" * 3000,
]


@pytest.mark.parametrize("value", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_forwarded_counts_as_absent(proxies: TrustedProxies, value: str) -> None:
    assert proxies.client_of(scope(("Forwarded", value))) == Origin(PROXY, "http", None, True)


@pytest.mark.parametrize("proto", ["javascript", "https:", "ftp", "", "https\t", "ws", "http s"])
def test_schemes_are_http_and_https(proxies: TrustedProxies, proto: str) -> None:
    request = scope(("X-Forwarded-Proto", f"x{proto}"), ("Host", "r.example"))
    assert proxies.client_of(request) == Origin(PROXY, "http", None, True)
    request = scope(("Forwarded", f'proto="{proto}x";host=r.example'))
    assert proxies.client_of(request) == Origin(PROXY, "http", None, True)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a/b",
        "user@r.example",
        "r.example:port",
        "r.example:123456",
        "r.example\r\nSet-Cookie: x",
        "r.example#",
        "r.example?",
        "[::1",
        "[::zz]",
        "::1",
        "ä.example",
        "a" * 300,
        "r.example\x00",
    ],
)
def test_hosts_are_authorities(proxies: TrustedProxies, host: str) -> None:
    request = scope(("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", host))
    assert proxies.client_of(request).host is None


def test_two_hosts_are_none(proxies: TrustedProxies) -> None:
    request = scope(("X-Forwarded-Proto", "https"), ("Host", "a"), ("Host", "b"))
    assert proxies.client_of(request).host is None


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-Host"])
def test_only_listed_hosts(name: str) -> None:
    proxies = TrustedProxies([PROXY], ["R.example", "r.example:5000"])

    def host(value: str) -> str | None:
        return proxies.client_of(scope(("X-Forwarded-Proto", "https"), (name, value))).host

    assert host("r.EXAMPLE") == "r.example"
    assert host("r.example:5000") == "r.example:5000"
    assert host("r.example:6000") is None
    assert host("evil.example") is None


def test_where_both_families_are_present_only_what_they_agree_on_counts(
    proxies: TrustedProxies,
) -> None:
    ours = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https")]
    smuggled = ("Forwarded", "for=6.6.6.6;proto=http;host=evil.example")
    origin = proxies.client_of(scope(*ours, smuggled, ("Host", "r.example")))
    assert origin == Origin(PROXY, "http", None, True)
    # One that agrees cannot add a host either.
    smuggled = ("Forwarded", "for=192.0.2.1;proto=https;host=evil.example")
    origin = proxies.client_of(scope(*ours, smuggled, ("Host", "r.example")))
    assert origin == Origin("192.0.2.1", "https", None, True)
    agreeing = ("Forwarded", "for=192.0.2.1;proto=https")
    origin = proxies.client_of(scope(*ours, agreeing, ("Host", "r.example")))
    assert origin == Origin("192.0.2.1", "https", "r.example", True)


def test_peers_on_a_unix_socket() -> None:
    headers = [("X-Forwarded-For", "192.0.2.1")]
    assert TrustedProxies([PROXY], []).client_of(scope(*headers, peer=None)) == Origin(
        "", "http", None, False
    )
    assert TrustedProxies(["unix"], []).client_of(scope(*headers, peer=None)) == Origin(
        "192.0.2.1", "http", None, True
    )


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "10.255.255.255", "2001:db8:1:2::3"])
def test_addresses_in_networks(proxies: TrustedProxies, peer: str) -> None:
    assert proxies.client_of(scope(peer=peer)).trusted


@pytest.mark.parametrize("network", ["", "10.0.0.1/8", "proxy.example", "10.0.0.0/33", "*"])
def test_a_bad_network_is_refused_in_a_sentence(network: str) -> None:
    with pytest.raises(ValueError, match=r"^A trusted proxy is an address, a network .*\.$"):
        TrustedProxies([network], [])


@pytest.mark.parametrize("host", ["", "https://r.example", "r.example/", "a b"])
def test_a_bad_host_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(ValueError, match=r"^A trusted host is a name or address .*\.$"):
        TrustedProxies([], [host])


KNOWN = Origin("192.0.2.1", "https", "r.example", True)
UNKNOWN = Origin(STRANGER, "http", None, False)

LOCATIONS: list[tuple[str | None, bool, str, Origin, str]] = [
    (None, False, "", UNKNOWN, "/v2/a/"),
    (None, False, "/registry/", UNKNOWN, "/registry/v2/a/"),
    (None, False, "", KNOWN, "https://r.example/v2/a/"),
    (None, False, "/registry/", KNOWN, "https://r.example/registry/v2/a/"),
    (None, True, "", KNOWN, "/v2/a/"),
    (None, True, "registry", KNOWN, "/registry/v2/a/"),
    ("https://own.example", False, "", KNOWN, "https://own.example/v2/a/"),
    ("https://own.example:8443/", False, "", UNKNOWN, "https://own.example:8443/v2/a/"),
    ("https://own.example", False, "/p/q/", UNKNOWN, "https://own.example/p/q/v2/a/"),
    ("https://own.example/path/", False, "/p/", UNKNOWN, "https://own.example/path/v2/a/"),
    ("https://[2001:db8::1]:5000", False, "", UNKNOWN, "https://[2001:db8::1]:5000/v2/a/"),
    ("own.example", False, "", KNOWN, "https://own.example/v2/a/"),
    ("own.example:5000", False, "", UNKNOWN, "http://own.example:5000/v2/a/"),
    ("https://own.example", True, "/p/", KNOWN, "/p/v2/a/"),
]


@pytest.mark.parametrize(("host", "relative", "prefix", "origin", "expected"), LOCATIONS)
def test_location(
    host: str | None, relative: bool, prefix: str, origin: Origin, expected: str
) -> None:
    request = scope(("Host", "evil.example"), peer=STRANGER)
    request[ORIGIN] = origin
    assert Links(host, relative, prefix).location(request, "/v2/a/") == expected


@pytest.mark.parametrize(
    ("host", "relative", "prefix", "expected"),
    [
        (None, False, "", ""),
        (None, False, "/registry/", "/registry"),
        ("https://own.example", False, "/p/q/", "/p/q"),
        ("https://own.example/path/", False, "", "/path"),
        ("own.example/path", False, "/p/", "/path"),
    ],
)
def test_where_clients_find_the_registry(
    host: str | None, relative: bool, prefix: str, expected: str
) -> None:
    """The same for a Location, for the next page of a list and for the token server."""
    links = Links(host, relative, prefix)
    assert links.prefix == expected
    assert links.path("/v2/_catalog") == f"{expected}/v2/_catalog"


def test_relative_urls_have_the_prefix_alone() -> None:
    assert Links("https://own.example/path", True, "/p/").path("/v2/") == "/p/v2/"


def test_location_without_the_middleware() -> None:
    assert Links(None, False, "").location(scope(), "/v2/?a=b") == "/v2/?a=b"
    assert Links("r.example", False, "").location(scope(scheme="https"), "/v2/") == (
        "https://r.example/v2/"
    )


@pytest.mark.parametrize(
    "host",
    [
        "ftp://r.example",
        "https://user:password@r.example",
        "https://r.example/?a",
        "https://r.example/#a",
        "https://",
        "https:///path",
        "r.example/a b",
        "https://r.example/a//b",
        "https://r.exa mple",
    ],
)
def test_a_bad_own_host_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(ValueError, match=r"^http\.host is a URL such as .*\.$"):
        Links(host, False, "")


@pytest.mark.parametrize("prefix", ["/a b/", "/a?b", "/ä/", "/a\r\n/", "/../%2e/"])
def test_a_bad_prefix_is_refused_in_a_sentence(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"^http\.prefix is a path such as .*\.$"):
        Links(None, False, prefix)
