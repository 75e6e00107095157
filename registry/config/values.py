"""The types of single values: from the text somebody typed to what the registry uses.

Each accepts its own Python type as well, so that sections can be built in code. A refusal is a
sentence without its full stop, which follows the name of the key.
"""

from __future__ import annotations

import ipaddress
import re
import warnings
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from registry.config.durations import format_duration, parse_duration
from registry.config.masking import quote

_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "y"), True),
    **dict.fromkeys(("false", "no", "off", "n"), False),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNUSABLE = re.compile(r"[\x00\ud800-\udfff]")
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 section 5.6.2
_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*(?:[A-Za-z0-9._~-]+)?", re.ASCII)
_FRAMING = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"})


def as_switch(text: object) -> bool | None:
    """What a text means as a switch, or None if it is none. Words of YAML 1.1."""
    return _WORDS.get(text.casefold()) if isinstance(text, str) else None


def _text(value: Any) -> Any:
    if isinstance(value, str) and _CONTROL.search(value):
        raise ValueError("holds a control character or is not UTF-8; write it on one line")
    return value


def _secret(value: Any) -> Any:
    if isinstance(value, str) and _UNUSABLE.search(value):
        raise ValueError("holds a NUL or is not UTF-8")
    return value


def _switch(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    switch = as_switch(value)
    if switch is None:
        raise ValueError(f"{quote(value)} is neither true nor false")
    return switch


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be longer than 0")
    return value


def whole(minimum: int, maximum: int = 2**53) -> BeforeValidator:
    """A whole number in decimal, from `minimum` to `maximum`."""

    def check(value: Any) -> Any:
        if isinstance(value, str):
            if not _WHOLE.fullmatch(value):
                raise ValueError(f"{quote(value)} is not a whole number in decimal, such as 100")
            value = int(value)
        if isinstance(value, int) and not minimum <= value <= maximum:
            limit = f"at least {minimum}" if value < minimum else f"at most {maximum}"
            raise ValueError(f"is {value} and must be {limit}")
        return value

    return BeforeValidator(check)


def choice(*options: str, **synonyms: str) -> BeforeValidator:
    """One of `options`, in any case; `synonyms` are read as the option they name."""

    def check(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        lowered = synonyms.get(value.casefold(), value.casefold())
        if lowered not in options:
            raise ValueError(f"{quote(value)} is not one of {', '.join((*options, *synonyms))}")
        return lowered

    return BeforeValidator(check)


def _network(value: str) -> str:
    if value == "unix":  # whoever comes over a Unix socket
        return value
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(
            f"{quote(value)} is not an address, a network such as 10.0.0.0/8, or unix"
        ) from None


def _ip_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(
            f"{quote(value)} is not an address or a network such as 10.0.0.0/8"
        ) from None


def _host_name(value: str) -> str:
    name, colon, port = value.rpartition(":") if not value.endswith("]") else (value, "", "")
    name = name if colon else value
    if (colon and not _is_port(port)) or not (_HOST.fullmatch(name) or _is_ipv6(name)):
        raise ValueError(f"{quote(value)} is not a host name, such as registry.example.com")
    return value.lower()


def _base_url(value: str) -> str:
    if not value:
        return value
    wanted = f"{quote(value)} is not a URL such as https://registry.example.com"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise ValueError(wanted) from None
    name = url.hostname or ""
    if url.scheme not in ("http", "https") or not (_HOST.fullmatch(name) or ":" in name):
        raise ValueError(wanted)
    if "@" in url.netloc or "?" in value or "#" in value or port == 0:
        raise ValueError(f"{wanted}: scheme, host, port and path, and nothing else")
    return value


def _endpoint(value: str) -> str:
    """A URL as it is, and a host with or without a port, whose scheme another key decides."""
    if "://" in value:
        return _base_url(value)
    return value and _base_url(f"https://{value}").removeprefix("https://")


def _url_path(value: str) -> str:
    if value and (not _PATH.fullmatch(value) or {".", ".."} & set(value.split("/"))):
        raise ValueError(f"{quote(value)} is not the path of a URL, such as /my/registry/")
    return value


def _with_slash(value: str) -> str:
    return value if value.endswith("/") or not value else value + "/"


def _pattern(value: str) -> str:
    """Distribution's are RE2. What Python reads otherwise, or not at all, is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # [[:alpha:]] would mean something else
            re.compile(value)
    except FutureWarning:
        raise ValueError(
            f"{quote(value)} has a POSIX class; write it out, such as [A-Za-z]"
        ) from None
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{quote(value)} is not a regular expression: {error}") from None
    return value


def _headers(value: dict[str, list[str]]) -> dict[str, list[str]]:
    for name, lines in value.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{quote(name)} is not the name of a header")
        if name.casefold() in _FRAMING:
            raise ValueError(f"{name} belongs to the server and cannot be set")
        if not all(line.isascii() for line in lines):
            raise ValueError(f"{name} has a value that is not ASCII")
    return value


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _is_ipv6(text: str) -> bool:
    if not (text.startswith("[") and text.endswith("]")):
        return False
    try:
        ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        return False
    return True


def split_address(text: str) -> tuple[str, int]:
    """Host ("" for every interface) and port of `host:port`. Raises ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    if not colon or not _is_port(port) or not (not host or _HOST.fullmatch(host) or _is_ipv6(host)):
        raise ValueError(
            f"{quote(text)} is not host:port; write 127.0.0.1:5000, [::1]:5000, or :5000 for every "
            "interface"
        )
    return host.strip("[]"), int(port)


def _address(value: str) -> str:
    if value:
        split_address(value)
    return value


def or_default(default: int) -> AfterValidator:
    """Distribution reads zero and less as "the default"."""
    return AfterValidator(lambda value: value if value > 0 else default)


def _go(seconds: float) -> str:
    return format_duration(seconds)


Text: TypeAlias = Annotated[str, BeforeValidator(_text)]
Secret: TypeAlias = Annotated[str, BeforeValidator(_secret)]
"""Text of any form. Declared with repr=False, so that no traceback or log line shows it."""
Switch: TypeAlias = Annotated[bool, BeforeValidator(_switch)]
Seconds: TypeAlias = Annotated[
    float, BeforeValidator(_duration), PlainSerializer(_go, return_type=str)
]
"""A duration, as seconds. At least 0."""
Timeout: TypeAlias = Annotated[Seconds, AfterValidator(_positive)]
Address: TypeAlias = Annotated[Text, AfterValidator(_address)]
BaseUrl: TypeAlias = Annotated[Text, AfterValidator(_base_url)]
Endpoint: TypeAlias = Annotated[Text, AfterValidator(_endpoint)]
UrlPath: TypeAlias = Annotated[Text, AfterValidator(_url_path)]
Prefix: TypeAlias = Annotated[UrlPath, AfterValidator(_with_slash)]
HostName: TypeAlias = Annotated[Text, AfterValidator(_host_name)]
Network: TypeAlias = Annotated[Text, AfterValidator(_network)]
IpNetwork: TypeAlias = Annotated[Text, AfterValidator(_ip_network)]
Pattern: TypeAlias = Annotated[Text, AfterValidator(_pattern)]
File: TypeAlias = Annotated[Path, BeforeValidator(_text)]
Headers: TypeAlias = Annotated[dict[str, list[Text]], AfterValidator(_headers)]
Unused: TypeAlias = Any
"""The value of a key that is known and has no effect: kept as written, never looked at."""
