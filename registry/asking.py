"""What a request shows of who sends it, as authorizers see it."""

from __future__ import annotations

from starlette.types import Scope

from auth.model import Asking
from registry.forwarded import Links


def asking_of(scope: Scope, links: Links) -> Asking:
    """For a request that has been through the middleware."""
    authorization = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if authorization is not None:
                authorization = "several"  # whoever stands between us may have read another one
                break
            authorization = value.decode("latin-1")
    tls = scope.get("extensions", {}).get("tls") or {}
    return Asking(
        authorization,
        scope["holdfast"].client,
        tls.get("client_cert_name") or "",
        links.base(scope),
    )
