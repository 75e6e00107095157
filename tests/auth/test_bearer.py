"""The `token` mode: what a client is told, what a token opens, and what is remembered of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from auth.audit import Event, What
from auth.bearer import RECHECK, Challenge, TokenAuthorizer, bearer_token, grants
from auth.jwk import KeySource, KeysUnavailable, VerificationKey, from_public
from auth.keysets import FileKeys
from auth.model import CATALOG, Access, Asking, Authorizer, Identity, Refused, Undecided, repository
from auth.tokens import Verifier
from tests.auth import tokenmaker as make
from tests.auth.tokenmaker import Clock, Known, claims, header, sign, token

REALM = "https://auth.example.com/token"
TOLD = f'Bearer realm="{REALM}",service="{make.SERVICE}"'
PULL = [repository("a/b", "pull")]
PUSH = [repository("a/b", "pull", "push")]


class Setting:
    def __init__(self, keys: KeySource | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.known = Known(from_public(make.RSA.public_key(), "k1"))
        verifier = Verifier(keys or self.known, make.ISSUER, [make.SERVICE], clock=self.clock)
        self.authorizer = TokenAuthorizer(
            verifier, Challenge(make.SERVICE, REALM), clock=self.clock, **options
        )

    def ask(self, credentials: str | None, wanted: Sequence[Access] = PULL) -> Identity:
        return asyncio.run(self.authorizer.authorize(Asking(credentials), wanted))

    def refusal(self, credentials: str | None, wanted: Sequence[Access] = PULL) -> Refused:
        with pytest.raises(Refused) as refused:
            self.ask(credentials, wanted)
        return refused.value


def test_it_is_an_authorizer() -> None:
    authorizer: Authorizer = Setting().authorizer
    assert not authorizer.reads_everything


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YWxpY2U6c2VjcmV0",
        "Digest x",
        "Bearer\tx",
        "Bearerx",
    ],
)
def test_without_a_token_the_challenge_names_no_error(credentials: str | None) -> None:
    assert Setting().refusal(credentials).challenge == f'{TOLD},scope="repository:a/b:pull"'


@pytest.mark.parametrize(
    ("wanted", "scope"),
    [
        ([], ""),
        (PUSH, ',scope="repository:a/b:pull,push"'),
        (
            [*PUSH, repository("c/d", "pull")],
            ',scope="repository:a/b:pull,push repository:c/d:pull"',
        ),
        ([CATALOG], ',scope="registry:catalog:*"'),
    ],
)
def test_the_challenge_is_distributions(wanted: list[Access], scope: str) -> None:
    assert Setting().refusal(None, wanted).challenge == TOLD + scope
    bad = Setting().refusal("Bearer rubbish", wanted)
    assert bad.challenge == f'{TOLD}{scope},error="invalid_token"'
    assert bad.reason == "The token does not have three parts."


@pytest.mark.parametrize(
    ("access", "wanted", "granted"),
    [
        ([("repository", "a/b", ["pull"])], PULL, True),
        ([("repository", "a/b", ["pull"])], [], True),
        ([], [], True),
        ([], PULL, False),
        ([("repository", "a/b", ["pull"])], PUSH, False),
        ([("repository", "a/b", ["pull", "push"])], [repository("a/b", "delete")], False),
        ([("repository", "a/b", ["push"])], PUSH, False),
        ([("repository", "a/b", ["pull"]), ("repository", "a/b", ["push"])], PUSH, True),
        ([("repository", "a/b", ["*"])], [*PUSH, repository("a/b", "delete")], True),
        ([("repository", "a/*", ["*"])], PULL, False),
        ([("repository", "*", ["*"])], PULL, False),
        ([("repository", "a", ["*"])], PULL, False),
        ([("repository", "a/bc", ["pull"])], PULL, False),
        ([("repository", "A/B", ["pull"])], PULL, False),
        ([("repository", " a/b", ["pull"])], PULL, False),
        ([("repository", "a/b", ["PULL"])], PULL, False),
        ([("repository", "a/b", ["pull,push"])], PULL, False),
        ([("registry", "a/b", ["pull"])], PULL, False),
        ([("repository", "a/b", ["pull", "push"])], [CATALOG], False),
        ([("repository", "catalog", ["*"])], [CATALOG], False),
        ([("registry", "catalog", ["*"])], [CATALOG], True),
        ([("registry", "catalog", ["*"])], PULL, False),
        ([("repository", "a/b", ["pull"])], [*PULL, repository("c/d", "pull")], False),
    ],
)
def test_a_token_opens_what_it_names(
    access: list[tuple[str, str, list[str]]], wanted: list[Access], granted: bool
) -> None:
    setting = Setting()
    listed = [{"type": kind, "name": name, "actions": actions} for kind, name, actions in access]
    credentials = f"Bearer {token(access=listed)}"
    for _ in range(2):  # the second time from what is remembered
        if granted:
            assert setting.ask(credentials, wanted).name == "alice"
        else:
            refused = setting.refusal(credentials, wanted)
            assert refused.challenge.endswith(',error="insufficient_scope"')


def test_what_a_token_does_not_open_is_audited() -> None:
    events: list[Event] = []
    setting = Setting(audit=events.append)
    setting.refusal(None)
    setting.refusal("Bearer rubbish")
    setting.ask(f"Bearer {token()}")
    assert events == []
    setting.refusal(f"Bearer {token()}", [repository("a/b", "delete")])
    (event,) = events
    assert (event.what, event.who, event.method) == (What.DENIED, "alice", "token")
    assert event.access == (repository("a/b", "delete"),)
    assert event.rule == f"token id1 of {make.ISSUER}"


def test_who_is_recognised() -> None:
    setting = Setting()
    identity = setting.ask(f"bearer  {token(groups=['dev'])}")
    assert identity == Identity(
        name="alice",
        method="token",
        groups=frozenset({"dev"}),
        granted=(Access("repository", "a/b", ("pull", "push")),),
        rule=f"token id1 of {make.ISSUER}",
    )
    assert setting.authorizer.permits(identity, PULL[0])
    assert not setting.authorizer.permits(identity, repository("c/d", "pull"))
    assert not setting.authorizer.permits(Identity(), PULL[0])


def test_a_token_is_remembered_only_for_a_while() -> None:
    setting = Setting()
    credentials = f"Bearer {token()}"
    setting.ask(credentials)
    setting.known.keys.clear()
    assert setting.ask(credentials).name == "alice"
    setting.clock.now += RECHECK
    assert "not trusted" in setting.refusal(credentials).reason


def test_an_expired_token_is_not_remembered() -> None:
    setting = Setting()
    credentials = f"Bearer {token(exp=make.NOW + 10)}"
    setting.ask(credentials)
    setting.clock.now += 10 + 59
    assert setting.ask(credentials).name == "alice"
    setting.clock.now += 1
    assert "expired" in setting.refusal(credentials).reason


def test_what_is_remembered_is_bounded() -> None:
    setting = Setting(remembered=10)
    for number in range(30):
        setting.ask(f"Bearer {token(jti=str(number))}")
    assert len(setting.authorizer._verified) == 10
    for number in range(30):
        setting.refusal(f"Bearer {token(jti=str(number), iss='other')}")
    assert len(setting.authorizer._verified) == 10


def test_one_token_is_not_taken_for_another() -> None:
    setting = Setting()
    good = token()
    setting.ask(f"Bearer {good}")
    for bad in (good[:-1], good + "A", good.swapcase(), good + "\udc80", good + "é", good + " x"):
        assert "invalid_token" in setting.refusal(f"Bearer {bad}").challenge


def test_a_revoked_key_ends_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(make.jwks(k1=make.RSA))
    setting = Setting(FileKeys(str(path), interval=0))
    setting.ask(f"Bearer {token()}")
    path.write_bytes(make.jwks(k2=make.P256))
    setting.clock.now += RECHECK
    setting.refusal(f"Bearer {token()}")
    renewed = sign(header(alg="ES256", kid="k2"), claims(), make.P256)
    assert setting.ask(f"Bearer {renewed}").name == "alice"


class Slow:
    """Keys that come only when told to."""

    certifies = False
    problem: str | None = None

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0

    def find(self, kid: str) -> VerificationKey | None:
        self.asked += 1
        self.gate.wait(10)
        raise KeysUnavailable("The keys cannot be fetched now.")

    def at_hand(self, kid: str) -> VerificationKey | None:
        return None if kid == "unknown" else from_public(make.RSA.public_key(), "k1")

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        return None


def test_keys_that_cannot_be_had_are_no_refusal() -> None:
    slow = Slow()
    slow.gate.set()
    with pytest.raises(Undecided, match="cannot be fetched"):
        Setting(slow).ask(f"Bearer {sign(header(kid='unknown'), claims())}")


def test_waiting_for_one_key_holds_up_nobody_else() -> None:
    slow = Slow()
    setting = Setting(slow)
    unknown = Asking(f"Bearer {sign(header(kid='unknown'), claims())}")

    async def both() -> None:
        waiting = [
            asyncio.create_task(setting.authorizer.authorize(unknown, PULL)) for _ in range(20)
        ]
        while not slow.asked:
            await asyncio.sleep(0)
        known = await setting.authorizer.authorize(Asking(f"Bearer {token()}"), PULL)
        assert known.name == "alice"
        assert slow.asked <= 2
        assert not any(task.done() for task in waiting)
        slow.gate.set()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(end) for end in ends} == {Undecided}

    asyncio.run(both())


@pytest.mark.parametrize(
    ("base", "realm"),
    [
        ("https://hub.example.com", "https://hub.example.com/auth/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/auth/token"),
        ("https://[::1]:5000", "https://[::1]:5000/auth/token"),
        ("", REALM),
        ('https://evil.example",service="x', REALM),
        ("https://evil.example\r\nSet-Cookie: a=b", REALM),
        ("https://evil.example\n", REALM),
        ("javascript://evil.example", REALM),
        ("https://user@evil.example", REALM),
        ("https://evil.example/path", REALM),
    ],
)
def test_the_realm_follows_the_client_where_that_is_asked_for(base: str, realm: str) -> None:
    challenge = Challenge(make.SERVICE, REALM, "/auth/token")
    told = challenge.header(Asking(base_url=base), [])
    assert told == f'Bearer realm="{realm}",service="{make.SERVICE}"'
    fixed = Challenge(make.SERVICE, REALM)
    assert fixed.header(Asking(base_url=base), []) == TOLD


def test_nothing_ends_a_quoted_string_early() -> None:
    challenge = Challenge("My registry (v2)", REALM)
    told = challenge.header(Asking(), [Access("repository", 'a"\r\nX: y\\é', ("pu\x00ll",))])
    assert (
        told == f'Bearer realm="{REALM}",service="My registry (v2)",scope="repository:aX: y:pull"'
    )


@pytest.mark.parametrize(
    "parts",
    [
        ("service", ""),
        ('ser"vice', REALM),
        ("service", REALM + '"'),
        ("service", REALM + "\r\n"),
        ("sérvice", REALM),
        ("service\\", REALM),
        ("service", REALM, "auth/token"),
        ("service", REALM, '/"'),
        ("service", REALM, "/\n"),
    ],
)
def test_what_cannot_stand_in_a_header_is_refused_at_the_start(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"auth\.token\."):
        Challenge(*parts)


@pytest.mark.parametrize(
    ("header_", "found"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER   abc ", "abc"),
        ("Basic abc", None),
        ("Token abc", None),
        ("Bearer", None),
        (None, None),
    ],
)
def test_where_a_token_stands(header_: str | None, found: str | None) -> None:
    assert bearer_token(header_) == found


def test_grants_add_up() -> None:
    both = [repository("a", "pull"), repository("a", "push")]
    assert grants(both, repository("a", "pull", "push"))
    assert not grants(both, repository("a", "pull", "push", "delete"))


def test_a_remembered_token_costs_next_to_nothing() -> None:
    setting = Setting()
    asking = Asking(f"Bearer {token()}")

    async def measure() -> float:
        await setting.authorizer.authorize(asking, PULL)
        best = 1.0
        for _ in range(20):
            begun = time.thread_time()
            for _ in range(200):
                await setting.authorizer.authorize(asking, PULL)
            best = min(best, (time.thread_time() - begun) / 200)
        return best

    spent = asyncio.run(measure())
    assert spent < 10e-6
