"""The audit: who did what, from where, and by which rule, one line each, apart from the access log.

What is told here can be asked for months later, so the names of the fields are a promise: `who`,
`how`, `client`, `access`, `rule`, `content`, `detail`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.responses import Response

from auth.audit import Event, What, describe
from registry import access
from registry.api.call import Call
from registry.parsing import Kind
from registry.telemetry import logs

_log = logs.get_logger("holdfast.audit")

_ALARMING: Final = frozenset((What.LOGIN_FAILED, What.THROTTLED))
_KINDS: Final = frozenset((Kind.MANIFEST, Kind.BLOB, Kind.UPLOAD, Kind.UPLOADS))
_DONE: Final = {("PUT", 201): "push", ("POST", 201): "push", ("DELETE", 202): "delete"}


def audit(event: Event, count: Callable[[str], None] = lambda _: None) -> None:
    """An `auth.audit.Audit`. `count` is told the name of the event."""
    count(event.what.value)
    say = _log.warning if event.what in _ALARMING else _log.info
    say(
        event.what.value,
        **_fields(
            who=event.who,
            how=event.method,
            client=event.client,
            access=describe(event.access),
            rule=event.rule,
            detail=event.detail,
        ),
    )


def done(call: Call, response: Response) -> None:
    """Note a push or a delete that has been done. Nothing for any other request."""
    target, method = call.target, call.request.method
    event = _DONE.get((method, response.status_code))
    if event is None or target.kind not in _KINDS:
        return
    call.services.audited(event)
    identity = call.identity
    digest = response.headers.get("docker-content-digest")
    _log.info(
        event,
        **_fields(
            who=identity.name,
            how=identity.method,
            client=call.request.scope["holdfast"].client,
            access=describe(access.needed(target, method)),
            rule=identity.rule,
            content=digest or str(target.reference),
        ),
    )


def _fields(**texts: str) -> dict[str, str]:
    return {name: text[:500] for name, text in texts.items() if text}
