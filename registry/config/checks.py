"""Rules that no single value can hold by itself, and what is set without effect.

They look at the fitted text, before its values are read, so that they are reported together with
every wrong value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from registry.config import auth
from registry.config.errors import Findings
from registry.config.inert import WITHOUT_EFFECT
from registry.config.s3 import S3_NAMES, check_s3
from registry.config.storage import DRIVERS, OTHER_DRIVERS
from registry.config.values import as_switch, split_address

VERSION: Final = "0.1"

_OF_THE_API: Final = ("/v2/", "/auth/")
_LONGEST_SOCKET = 107  # bytes in sockaddr_un on Linux, less the final NUL

Plain = dict[str, Any]


def check(plain: Plain, findings: Findings) -> None:
    """Report what is wrong or without effect; take the place of deprecated keys."""
    for rule in _RULES:
        rule(plain, findings)


def _version(plain: Plain, findings: Findings) -> None:
    if findings.blames("version"):
        return
    if "version" not in plain:
        findings.problem(("version",), f"is missing; begin the file with 'version: {VERSION}'")
    elif plain["version"] != VERSION:
        findings.problem(
            ("version",), f"is not one this registry reads; the only one there is is {VERSION}"
        )


def _driver(plain: Plain, findings: Findings) -> None:
    storage = _below(plain, "storage")
    chosen = [name for name in (*DRIVERS, *OTHER_DRIVERS) if name in storage]
    for name in chosen:
        if name in OTHER_DRIVERS:
            findings.problem(
                ("storage", name),
                "this version stores on a filesystem, in S3 or in memory; use storage.filesystem "
                "or storage.s3",
            )
    if len(chosen) > 1:
        named = [f"{name} ({findings.origin(('storage', name))})" for name in chosen]
        wanted = next(
            (n for n in chosen if (findings.origin(("storage", n)) or "").startswith("from ")),
            chosen[0],
        )
        findings.problem(
            ("storage",),
            f"has {' and '.join(named)}, and a registry has one driver; remove the others, or set "
            f"REGISTRY_STORAGE={wanted} to replace the whole section",
        )
    elif not chosen and not findings.blames("storage"):
        findings.problem(
            ("storage",),
            "names no driver; add 'filesystem:' with a 'rootdirectory:', or 's3:' with a "
            "'bucket:', below 'storage:'",
        )


def _s3(plain: Plain, findings: Findings) -> None:
    for name in S3_NAMES:
        if name in _below(plain, "storage"):
            check_s3(("storage", name), _below(plain, "storage", name), findings)


def _auth(plain: Plain, findings: Findings) -> None:
    kinds = sorted(_below(plain, "auth"))
    if len(kinds) > 1:
        findings.problem(
            ("auth",),
            f"has {' and '.join(kinds)}, and a registry has one way to know its users; remove the "
            "others",
        )
    if kinds in ([], ["none"]):
        plain.pop("auth", None)
        return
    for kind in kinds:
        for key, sentence in auth.missing(kind, _below(plain, "auth", kind)).items():
            findings.problem(("auth", kind, key), sentence)


def _proxy(plain: Plain, findings: Findings) -> None:
    if _below(plain, "proxy").get("remoteurl"):
        findings.problem(
            ("proxy", "remoteurl"),
            "this version is no mirror of another registry, and does not start as something else; "
            "remove the section proxy to serve what is stored here",
        )


def _address(plain: Plain, findings: Findings) -> None:
    http = _below(plain, "http")
    path, address = ("http", "addr"), http.get("addr")
    if str(http.get("net", "tcp")).casefold() == "unix":
        if not address:
            findings.problem(path, "is missing; with http.net: unix it is the path of the socket")
        elif len(address.encode(errors="replace")) > _LONGEST_SOCKET:
            findings.problem(path, f"is longer than the {_LONGEST_SOCKET} bytes a socket can have")
    elif address is not None:
        try:
            split_address(address)
        except ValueError as error:
            findings.problem(path, str(error))


def _tls(plain: Plain, findings: Findings) -> None:
    tls = _below(plain, "http", "tls")
    certificate, key = tls.get("certificate"), tls.get("key")
    if certificate and not key:
        findings.problem(("http", "tls", "key"), "is missing; a certificate needs its private key")
    if key and not certificate:
        findings.problem(("http", "tls", "certificate"), "is missing; http.tls.key is set")
    if certificate or key:
        return
    if _is_set(tls.get("letsencrypt")):
        findings.problem(
            ("http", "tls", "letsencrypt"),
            "this version obtains no certificates, and does not start without TLS where a "
            "configuration asks for it; set http.tls.certificate and http.tls.key",
        )
    if _is_set(tls.get("clientcas")):
        findings.problem(
            ("http", "tls", "clientcas"),
            "asks clients for certificates, which needs http.tls.certificate and http.tls.key",
        )


def _realm(plain: Plain, findings: Findings) -> None:
    """Clients are sent to an absolute URL for tokens, and what they call the registry is not believed."""
    http, chosen = _below(plain, "http"), _below(plain, "auth")
    builtin, token = chosen.get("builtin"), chosen.get("token")
    derived = (builtin is not None and not builtin.get("realm")) or (
        token is not None and as_switch(token.get("autoredirect"))
    )
    secured = _below(plain, "http", "tls").get("certificate")
    if derived and secured and not http.get("host") and not http.get("trustedproxies"):
        findings.warn(
            ("http", "host"),
            "is not set, so clients are sent for tokens to the bare address of this machine, which "
            "the certificate is hardly for; set it to what they call the registry, such as "
            "https://registry.example.com",
        )


def _proxy_protocol(plain: Plain, findings: Findings) -> None:
    http = _below(plain, "http")
    if as_switch(http.get("proxyprotocol")) and not http.get("trustedproxies"):
        findings.problem(
            ("http", "proxyprotocol"),
            "believes the announcements of nobody; list the balancers' addresses in "
            "http.trustedproxies",
        )


def _accel_redirect(plain: Plain, findings: Findings) -> None:
    http = _below(plain, "http")
    path, prefix = ("http", "accelredirect"), http.get("accelredirect")
    if not prefix:
        return
    if not http.get("trustedproxies"):
        findings.problem(
            path, "lets nobody send blobs; list the addresses of nginx in http.trustedproxies"
        )
    if "filesystem" not in _below(plain, "storage"):
        findings.problem(
            path, "needs storage.filesystem, in a directory that nginx reads too; remove it"
        )
    if not str(prefix).strip("/") or f"{prefix}/".startswith(_OF_THE_API):
        findings.problem(
            path,
            "is a path that clients ask for; choose one for nginx alone, such as /holdfast-blobs/",
        )


def _platforms(plain: Plain, findings: Findings) -> None:
    indexes = _below(plain, "validation", "manifests", "indexes")
    if str(indexes.get("platforms", "")).casefold() == "list" and not indexes.get("platformlist"):
        findings.problem(
            ("validation", "manifests", "indexes", "platformlist"),
            "is missing; platforms: list needs it",
        )


def _deprecated(plain: Plain, findings: Findings) -> None:
    if "loglevel" in plain:
        findings.warn(("loglevel",), "is deprecated; use log.level")
        log = plain.setdefault("log", {})
        if not findings.blames("log", "level"):
            log.setdefault("level", plain.pop("loglevel"))
        plain.pop("loglevel", None)
    cache = _below(plain, "storage", "cache")
    if "layerinfo" in cache:
        path = ("storage", "cache", "layerinfo")
        findings.warn(path, "is deprecated; use storage.cache.blobdescriptor")
        cache.setdefault("blobdescriptor", cache.pop("layerinfo"))
        cache.pop("layerinfo", None)
    validation = _below(plain, "validation")
    if "enabled" in validation:
        findings.warn(("validation", "enabled"), "is deprecated; use validation.disabled")
        if as_switch(validation["enabled"]) and as_switch(validation.get("disabled")):
            validation["disabled"] = "false"  # so does Distribution


def _without_effect(plain: Plain, findings: Findings) -> None:
    for key, instead in WITHOUT_EFFECT.items():
        path = tuple(key.split("."))
        if _is_set(_below(plain, *path[:-1]).get(path[-1])):
            findings.warn(path, f"has no effect in this version: {instead}")
    if as_switch(_below(plain, "http", "http2").get("disabled")) is False:
        findings.warn(
            ("http", "http2"), f"has no effect in this version: {WITHOUT_EFFECT['http.h2c']}"
        )
    cache = _below(plain, "storage", "cache")
    if str(cache.get("blobdescriptor", "")).casefold() == "redis":
        findings.warn(
            ("storage", "cache", "blobdescriptor"),
            f"redis has no effect in this version: {WITHOUT_EFFECT['redis']}",
        )


_RULES: Final[tuple[Callable[[Plain, Findings], None], ...]] = (
    _version,
    _driver,
    _s3,
    _auth,
    _proxy,
    _address,
    _tls,
    _realm,
    _proxy_protocol,
    _accel_redirect,
    _platforms,
    _deprecated,
    _without_effect,
)


def _below(plain: Plain, *path: str) -> Plain:
    """The section at `path`; empty if it is not there."""
    for key in path:
        plain = plain.get(key, {})
    return plain


def _is_set(value: Any) -> bool:
    """Whether anything in a value says something."""
    return any(True for _ in _said(value))


def _said(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _said(item)
    elif isinstance(value, list):
        for item in value:
            yield from _said(item)
    elif value not in (None, "") and as_switch(value) is not False:
        yield value
