"""Whether strangers could use a registry that asks nobody who they are."""

from __future__ import annotations

import ipaddress

from registry.config.http import UnixEndpoint
from registry.config.settings import Settings


def check_exposure(settings: Settings, insecure_anonymous: bool) -> str | None:
    """Why the registry must not start as configured, in a sentence, or None if it may.

    Without authentication it listens on loopback or a Unix socket only, unless its operator said
    that this is what they want. A host name other than `localhost` is not looked up.
    """
    if insecure_anonymous or _knows_its_users(settings):
        return None
    endpoint = settings.http.endpoint
    if isinstance(endpoint, UnixEndpoint) or _is_loopback(endpoint.host):
        return None
    storage = settings.storage
    could = ["pull"]
    if not storage.maintenance.readonly.enabled:
        could += ["push", "delete"] if storage.delete.enabled else ["push"]
    acts = could[0] if len(could) == 1 else f"{', '.join(could[:-1])} and {could[-1]}"
    where = "every interface" if not endpoint.host else endpoint.host
    return (
        f"http.addr is {settings.http.addr} ({where}) and there is no authentication: anyone who "
        f"reaches this port could {acts}. Configure auth, or set http.addr to a loopback address such "
        f"as 127.0.0.1:{endpoint.port}, or pass --insecure-anonymous if that is what you want."
    )


def _knows_its_users(settings: Settings) -> bool:
    """`silly` takes every Authorization header, whatever is in it."""
    auth = settings.auth
    return auth is not None and any((auth.htpasswd, auth.token, auth.builtin))


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
