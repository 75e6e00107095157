"""Every route has a rule, every rule a route, and what each needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from auth.anonymous import AllowAll
from auth.model import (
    CATALOG,
    Access,
    Asking,
    Denied,
    Identity,
    Refused,
    Throttled,
    Undecided,
    repository,
)
from registry import access
from registry.app import HANDLERS
from registry.errors import MethodNotAllowed, status_of
from registry.parsing import Kind, parse_target
from storage.model import errors
from storage.model.errors import Unauthorized

HEX = "0" * 64
PATHS = {
    Kind.BASE: "/",
    Kind.CATALOG: "/_catalog",
    Kind.TAGS: "/a/tags/list",
    Kind.MANIFEST: "/a/manifests/x",
    Kind.BLOB: f"/a/blobs/sha256:{HEX}",
    Kind.UPLOADS: "/a/blobs/uploads/",
    Kind.UPLOAD: "/a/blobs/uploads/0c337451-7bba-44a7-907d-2be42e7fb013",
    Kind.REFERRERS: f"/a/referrers/sha256:{HEX}",
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"]
MATRIX = [(kind, method) for kind in Kind for method in METHODS]


def test_handlers_and_rules_are_of_the_same_routes() -> None:
    handled = {(kind, method) for kind, methods in HANDLERS.items() for method in methods}
    ruled = {(kind, method) for kind, methods in access.RULES.items() for method in methods}
    assert handled == ruled


def test_every_kind_is_in_both_tables_and_in_this_one() -> None:
    assert set(HANDLERS) == set(access.RULES) == set(PATHS) == set(Kind)
    for kind, path in PATHS.items():
        assert parse_target(path.encode()).kind is kind


@pytest.mark.parametrize(("kind", "method"), MATRIX)
def test_what_is_needed(kind: Kind, method: str) -> None:
    """The matrix: Distribution's actions, apart from cancelling, which needs no more than pushing."""
    target = parse_target(PATHS[kind].encode())
    if method not in HANDLERS[kind]:
        with pytest.raises(MethodNotAllowed) as caught:
            access.needed(target, method)
        assert caught.value.allowed == sorted(HANDLERS[kind])
        return
    wanted = access.needed(target, method)
    if kind is Kind.BASE:
        assert wanted == []
    elif kind is Kind.CATALOG:
        assert wanted == [CATALOG]
    elif kind in {Kind.UPLOAD, Kind.UPLOADS} or method == "PUT":
        assert wanted == [repository("a", "pull", "push")]
    elif method == "DELETE":
        assert wanted == [repository("a", "delete")]
    else:
        assert method in {"GET", "HEAD"}
        assert wanted == [repository("a", "pull")]


class Refuser:
    reads_everything = False

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def authorize(self, asking: Asking, wanted: Sequence[Access]) -> Identity:
        raise self._error or Refused(
            f"Log in first, {asking.authorization}.", challenge='Basic realm="x"'
        )

    def permits(self, identity: Identity, access: Access) -> bool:
        return False


def test_a_refusal_carries_the_challenge_and_what_was_wanted() -> None:
    target = parse_target(b"/a/manifests/x")
    with pytest.raises(Unauthorized) as caught:
        asyncio.run(access.authorize(Refuser(), Asking("nobody"), target, "PUT"))
    assert caught.value.challenge == 'Basic realm="x"'
    assert caught.value.message == "Log in first, nobody."
    assert caught.value.detail == [
        {"Type": "repository", "Class": "", "Name": "a", "Action": "pull"},
        {"Type": "repository", "Class": "", "Name": "a", "Action": "push"},
    ]


def test_a_method_that_is_not_there_is_refused_before_the_authorizer_is_asked() -> None:
    with pytest.raises(MethodNotAllowed):
        asyncio.run(access.authorize(Refuser(), Asking(), parse_target(b"/_catalog"), "DELETE"))


def test_without_access_control_everybody_is_nobody() -> None:
    identity = asyncio.run(
        access.authorize(AllowAll(), Asking(), parse_target(b"/a/manifests/x"), "PUT")
    )
    assert identity == Identity()


@pytest.mark.parametrize(
    ("raised", "error", "status"),
    [
        (Denied("Ask your administrator."), errors.Denied, 403),
        (Throttled("Wait a minute.", retry_after=60), errors.TooManyRequests, 429),
        (Undecided("The users' file cannot be read."), errors.Unavailable, 503),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_way_to_say_no_has_its_status(
    raised: Exception, error: type[errors.RegistryError], status: int
) -> None:
    with pytest.raises(error, match=str(raised.args[0])) as caught:
        asyncio.run(
            access.authorize(Refuser(raised), Asking(), parse_target(b"/a/manifests/x"), "GET")
        )
    assert status_of(caught.value) == status
