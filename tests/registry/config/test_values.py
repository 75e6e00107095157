"""Single values: what is taken, what it becomes, and what a refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from registry.config import values
from registry.config.http import Http
from registry.config.service import Level, Most


def _problem(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    (error,) = caught.value.errors()
    return str(error["ctx"]["error"])


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (values.Switch, "true", True),
        (values.Switch, "Yes", True),
        (values.Switch, "off", False),
        (values.Switch, True, True),
        (values.Seconds, "1m", 60.0),
        (values.Seconds, 2.5, 2.5),
        (values.Address, ":5000", ":5000"),
        (values.Address, "[::1]:0", "[::1]:0"),
        (values.Address, "my_host.example:65535", "my_host.example:65535"),
        (values.BaseUrl, "", ""),
        (values.BaseUrl, "https://a.example:5000/x/", "https://a.example:5000/x/"),
        (values.BaseUrl, "http://[::1]:5000", "http://[::1]:5000"),
        (values.Prefix, "/a", "/a/"),
        (values.Prefix, "/a/b/", "/a/b/"),
        (values.Prefix, "", ""),
        (values.Prefix, "/", "/"),
        (values.UrlPath, "/metrics", "/metrics"),
        (values.HostName, "A.Example", "a.example"),
        (values.HostName, "a.example:5000", "a.example:5000"),
        (values.HostName, "[::1]", "[::1]"),
        (values.HostName, "[::1]:5000", "[::1]:5000"),
        (values.Network, "10.0.0.7/8", "10.0.0.0/8"),
        (values.Network, "10.0.0.7", "10.0.0.7/32"),
        (values.Network, "fd00::/8", "fd00::/8"),
        (values.Network, "unix", "unix"),
        (values.Pattern, r"^https?://([^/]+\.)*a\.example/", r"^https?://([^/]+\.)*a\.example/"),
        (values.Secret, "a\nb\t", "a\nb\t"),
        (values.Headers, {"X-A": ["b c"]}, {"X-A": ["b c"]}),
        (Level, "WARNING", "warn"),
        (Most, "0", 1000),
        (Most, "-5", 1000),
        (Most, "7", 7),
    ],
)
def test_taken(kind: Any, value: object, result: object) -> None:
    assert TypeAdapter(kind).validate_python(value) == result


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (values.Switch, "maybe", "'maybe' is neither true nor false"),
        (values.Switch, "1", "neither true nor false"),
        (values.Timeout, "0", "longer than 0"),
        (values.Address, "5000", "is not host:port"),
        (values.Address, "a:b", "is not host:port"),
        (values.Address, "a:65536", "is not host:port"),
        (values.Address, "::1:5000", "is not host:port"),
        (values.Address, "[::g]:5000", "is not host:port"),
        (values.Address, "http://a:5000", "is not host:port"),
        (values.Address, "a" * 64 + ":1", "is not host:port"),
        (values.Address, "a" * 60 + "!:1", "is not host:port"),
        (values.BaseUrl, "a.example", "is not a URL"),
        (values.BaseUrl, "ftp://a.example", "is not a URL"),
        (values.BaseUrl, "https://", "is not a URL"),
        (values.BaseUrl, "https://a:x", "is not a URL"),
        (values.BaseUrl, "https://[", "is not a URL"),
        (values.BaseUrl, "https://u:p@a.example", "nothing else"),
        (values.BaseUrl, "https://a.example/?x", "nothing else"),
        (values.Prefix, "a/", "is not the path of a URL"),
        (values.Prefix, "/a//b/", "is not the path of a URL"),
        (values.Prefix, "/../", "is not the path of a URL"),
        (values.Prefix, "/" + "a" * 60 + "!", "is not the path of a URL"),
        (values.HostName, "https://a", "is not a host name"),
        (values.HostName, "a b", "is not a host name"),
        (values.HostName, "*", "is not a host name"),
        (values.HostName, "", "is not a host name"),
        (values.HostName, "a:b", "is not a host name"),
        (values.Network, "10.0.0.0/99", "is not an address, a network"),
        (values.Network, "example.com", "is not an address, a network"),
        (values.Pattern, "(", "not a regular expression"),
        (values.Pattern, r"\p{Greek}", "not a regular expression"),
        (values.Pattern, "[[:alpha:]]", "POSIX class"),
        (values.Text, "a\nb", "control character"),
        (values.Text, "a\udc80", "control character"),
        (values.Secret, "a\0", "NUL"),
        (values.File, "a\0", "control character"),
        (values.Headers, {"X A": ["b"]}, "not the name of a header"),
        (values.Headers, {"": ["b"]}, "not the name of a header"),
        (values.Headers, {"Content-Length": ["5"]}, "belongs to the server"),
        (values.Headers, {"X-A": ["é"]}, "not ASCII"),
        (values.Headers, {"X-A": ["b\r\nX-B: c"]}, "control character"),
    ],
)
def test_refused_with_a_sentence(kind: Any, value: object, says: str) -> None:
    assert says in _problem(kind, value)


@pytest.mark.parametrize("text", ["01", "0x10", "1e3", "1.0", "1_000", "", " 1", "٣", "9" * 19])
def test_whole_numbers_are_decimal(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a whole number"):
        Http.model_validate({"workers": text})


def test_whole_numbers_have_limits() -> None:
    with pytest.raises(ValidationError, match="is 513 and must be at most 512"):
        Http.model_validate({"workers": "513"})
    assert Http.model_validate({"workers": "512"}).workers == 512


def test_a_choice_lists_its_options() -> None:
    with pytest.raises(ValidationError, match=r"'tls1.0' is not one of tls1.2, tls1.3"):
        Http.model_validate({"tls": {"minimumtls": "tls1.0"}})
