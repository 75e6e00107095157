"""Sealed credentials: robots, personal tokens, refresh tokens, and taking them back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection

import pytest

from auth.jose import decode, encode
from auth.model import CATALOG, Access, Undecided, repository
from auth.refresh import RefreshTokens
from auth.revocations import Revocation, RevocationList
from auth.robots import CredentialInvalid, RobotTokens, looks_like_one
from auth.scopes import ScopeInvalid, parse, parse_limits, within
from auth.sealed import LIMIT, NotSealed, Seal
from tests.auth.accountfiles import Clock

SECRET = b"0123456789abcdef"
OTHER = b"fedcba9876543210"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_robot_says_what_it_is(clock: Clock) -> None:
    robots = RobotTokens([SECRET], clock=clock)
    text, made = robots.create(
        "robot",
        "ci-web",
        lifetime=3600,
        scopes=["repository:team/**:pull,push", "registry:catalog:*"],
    )
    assert text.startswith("hf_")
    assert looks_like_one(text)
    assert RobotTokens([SECRET], clock=clock).verify(text) == made  # on another node
    assert (made.kind, made.name) == ("robot", "ci-web")
    assert made.limits == (repository("team/**", "pull", "push"), CATALOG)
    assert made.expires - made.issued == 3600
    again, other = robots.create("robot", "ci-web", lifetime=3600)
    assert again != text
    assert other.id != made.id


def test_it_ends_when_it_says(clock: Clock) -> None:
    robots = RobotTokens([SECRET], clock=clock)
    text, _ = robots.create("personal", "alice", lifetime=60)
    clock.pass_(59)
    assert robots.verify(text).name == "alice"
    clock.pass_(1)
    with pytest.raises(CredentialInvalid, match="expired"):
        robots.verify(text)


def test_a_secret_is_replaced_without_ending_what_it_sealed(clock: Clock) -> None:
    text, made = RobotTokens([SECRET], clock=clock).create("robot", "ci", lifetime=60)
    rotated = RobotTokens([OTHER, SECRET], clock=clock)
    assert rotated.verify(text) == made
    newer, _ = rotated.create("robot", "ci", lifetime=60)
    with pytest.raises(CredentialInvalid):
        RobotTokens([SECRET], clock=clock).verify(newer)
    with pytest.raises(CredentialInvalid):
        RobotTokens([OTHER], clock=clock).verify(text)


def test_not_a_bit_may_change(clock: Clock) -> None:
    robots = RobotTokens([SECRET], clock=clock)
    text, _ = robots.create("robot", "ci", lifetime=60)
    raw = decode(text[3:])
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1
        with pytest.raises(CredentialInvalid, match="not one that this registry gave out"):
            robots.verify("hf_" + encode(bytes(changed)))
    for wrong in (text + "A", text[:-1], text + "=", " " + text, "hf_", "", text[3:], "hf_" + "é"):
        with pytest.raises(CredentialInvalid):
            robots.verify(wrong)


def test_what_was_sealed_for_one_purpose_is_nothing_to_another(clock: Clock) -> None:
    refresh = RefreshTokens([SECRET], clock=clock)
    text = refresh.create("alice", "htpasswd", service="s", lifetime=60)
    with pytest.raises(CredentialInvalid):
        RobotTokens([SECRET], clock=clock).verify(text.replace("hfr_", "hf_"))
    robot, _ = RobotTokens([SECRET], clock=clock).create("robot", "ci", lifetime=60)
    with pytest.raises(CredentialInvalid):
        refresh.verify(robot.replace("hf_", "hfr_"), "s")
    assert Seal([SECRET], "a", "x").open(Seal([SECRET], "a", "x").seal({"n": 1})) == {"n": 1}
    with pytest.raises(NotSealed):
        Seal([SECRET], "b", "x").open(Seal([SECRET], "a", "x").seal({"n": 1}))


@pytest.mark.parametrize(
    ("kind", "name", "lifetime", "scopes"),
    [
        ("robot", "CI", 60, ()),
        ("robot", "", 60, ()),
        ("robot", "a:b", 60, ()),
        ("robot", "*", 60, ()),
        ("robot", "ci", 0, ()),
        ("robot", "ci", 20 * 366 * 86400, ()),
        ("robot", "ci", 60, ("",)),
        ("robot", "ci", 60, ("repository:Team/**:pull",)),
        ("robot", "ci", 60, ("repository:{user}/**:pull",)),
        ("robot", "ci", 60, ("repository:x:frobnicate",)),
        ("robot", "ci", 60, ("plugin:x:pull",)),
        ("robot", "ci", 60, ("team/**",)),
        ("personal", "a b", 60, ()),
        ("personal", "robot:ci", 60, ()),
        ("robot", "ci", 60, tuple(f"repository:{'x' * 200}/{n}:pull" for n in range(60))),
    ],
)
def test_what_makes_no_sense_is_not_sealed(
    kind: str, name: str, lifetime: int, scopes: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError):
        RobotTokens([SECRET]).create(
            "robot" if kind == "robot" else "personal", name, lifetime=lifetime, scopes=scopes
        )


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"id": 1},
        {"kind": "admin"},
        {"exp": "9999999999"},
        {"scopes": ["x"]},
        {"scopes": [1]},
        {"name": None},
    ],
)
def test_what_is_sealed_is_looked_at_all_the_same(content: dict[str, object], clock: Clock) -> None:
    whole = {"id": "1", "kind": "robot", "name": "ci", "scopes": [], "iat": 1, "exp": 2**40}
    seal = Seal([SECRET], "robots", "hf_")
    robots = RobotTokens([SECRET], clock=clock)
    assert robots.verify(seal.seal(whole)).name == "ci"
    with pytest.raises(CredentialInvalid):
        robots.verify(seal.seal({**whole, **content} if content else {}))


def test_a_secret_is_long_enough() -> None:
    for secrets in ([], [b"short"], [SECRET, b""]):
        with pytest.raises(ValueError, match="16 bytes"):
            RobotTokens(secrets)


def test_what_is_too_long_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> bytes:
        raise AssertionError

    monkeypatch.setattr("auth.sealed.decode", fail)
    with pytest.raises(CredentialInvalid):
        RobotTokens([SECRET]).verify("hf_" + "A" * LIMIT)


def test_refresh_tokens(clock: Clock) -> None:
    refresh = RefreshTokens([SECRET], clock=clock)
    text = refresh.create(
        "github:a/b", "oidc", service="s", lifetime=60, stamp="x", groups=frozenset({"g"})
    )
    read = refresh.verify(text, "s")
    assert (read.name, read.method, read.stamp) == ("github:a/b", "oidc", "x")
    assert read.groups == {"g"}
    with pytest.raises(CredentialInvalid):
        refresh.verify(text, "another")
    clock.pass_(60)
    with pytest.raises(CredentialInvalid, match="expired"):
        refresh.verify(text, "s")


class Kept:
    """Revocations as a storage keeps them."""

    def __init__(self) -> None:
        self.all: dict[str, Revocation] = {}
        self.reads = 0
        self.broken = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def listed(self) -> Collection[Revocation]:
        self.reads += 1
        self.may_answer.wait(20)
        if self.broken:
            raise OSError("no answer")
        return list(self.all.values())

    def add(self, revocation: Revocation) -> None:
        self.all[revocation.id] = revocation


def test_a_revocation_is_known_everywhere_within_half_a_minute(clock: Clock) -> None:
    kept = Kept()

    async def check() -> None:
        nodes = [RevocationList(kept, clock=clock) for _ in range(2)]
        for node in nodes:
            assert not await node.revoked("a")
        kept.add(Revocation("a", 2**40, "leaked"))
        clock.pass_(30)
        for node in nodes:
            assert await node.revoked("a")
            assert not await node.revoked("b")

    asyncio.run(check())


def test_nobody_waits_for_the_list_while_it_is_fresh(clock: Clock) -> None:
    kept = Kept()

    async def check() -> None:
        node = RevocationList(kept, clock=clock)
        for _ in range(10):
            assert not await node.revoked("a")
        assert kept.reads == 1
        clock.pass_(11)
        kept.add(Revocation("a", 2**40))
        kept.may_answer.clear()
        assert not await node.revoked("a")  # read behind their back, which hangs
        clock.pass_(10)
        assert not await node.revoked("a")
        kept.may_answer.set()
        clock.pass_(10)
        assert await node.revoked("a")
        assert kept.reads <= 3

    asyncio.run(check())


def test_an_old_list_is_no_list(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()

    async def check() -> None:
        kept.broken = True
        node = RevocationList(kept, clock=clock)
        with pytest.raises(Undecided):
            await node.revoked("a")
        kept.broken = False
        assert not await node.revoked("a")
        kept.broken = True
        clock.pass_(29)
        assert not await node.revoked("a")
        clock.pass_(1)
        with pytest.raises(Undecided):
            await node.revoked("a")
        assert "no answer" in caplog.text
        kept.broken = False
        assert not await node.revoked("a")

    asyncio.run(check())


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["repository:a/b:pull,push"], [repository("a/b", "pull", "push")]),
        (
            ["repository:a:pull repository:b:pull"],
            [repository("a", "pull"), repository("b", "pull")],
        ),
        (["repository:a:pull", "repository:a:push,pull"], [repository("a", "pull", "push")]),
        (["repository(plugin):a:pull"], [repository("a", "pull")]),
        (["repository:host:5000/a:pull"], [repository("host:5000/a", "pull")]),
        (["repository:a:*"], [repository("a", "pull", "push", "delete")]),
        (["registry:catalog:*"], [CATALOG]),
        (["repository:a:"], [repository("a")]),
        (["", "  "], []),
        (["other:thing:do"], [Access("other", "thing", ("do",))]),
    ],
)
def test_scopes(texts: list[str], expected: list[Access]) -> None:
    assert parse(texts) == expected


@pytest.mark.parametrize(
    "text",
    [
        "repository",
        "repository:a",
        ":a:pull",
        "repository::pull",
        "repository:a:PULL",
        "REPOSITORY:a:pull",
        "repository:a:pull;push",
        "x" * 2000,
        "repository:" + "a" * 1100 + ":pull",
        " ".join(f"repository:a{n}:pull" for n in range(101)),
        "a" * 200_000,
    ],
)
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(ScopeInvalid):
        parse([text])


def test_limits() -> None:
    limits = parse_limits(["repository:team/**:pull,push repository:lib/*:pull"])
    for inside in (
        repository("team/a/b", "pull", "push"),
        repository("lib/x", "pull"),
        repository("lib/x", "catalog"),
    ):
        assert within(limits, inside)
    for outside in (
        repository("team/a", "delete"),
        repository("team/a", "pull", "delete"),
        repository("lib/x", "push"),
        repository("lib/x/y", "pull"),
        repository("team", "pull"),
        CATALOG,
        Access("registry", "team/a", ("pull",)),
    ):
        assert not within(limits, outside)
    assert within(parse_limits(["registry:catalog:*"]), CATALOG)
