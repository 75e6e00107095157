from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from auth.model import Undecided
from auth.oidc import DISCOVERY, Job, OidcIssuers, TrustedIssuer
from auth.policy import claim
from auth.tokens import TokenInvalid
from tests.auth.accountfiles import Clock
from tests.auth.issuer import Issuer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> Iterator[Issuer]:
    made = Issuer(clock)
    yield made
    made.close()


@pytest.fixture
def trusted(issuer: Issuer) -> TrustedIssuer:
    return TrustedIssuer(
        "github",
        issuer.url,
        ("registry.example.com",),
        require={"repository_owner": ("my-org", "my-other-org")},
        username="{repository}",
        claims=("ref",),
    )


def _verify(issuers: OidcIssuers, token: str) -> Job:
    return asyncio.run(issuers.verify(token))


def _refused(issuers: OidcIssuers, token: str) -> str:
    with pytest.raises(TokenInvalid) as refused:
        _verify(issuers, token)
    return refused.value.reason


def test_a_job_is_who_its_token_says(issuer: Issuer, trusted: TrustedIssuer, clock: Clock) -> None:
    issuers = OidcIssuers([trusted], clock=clock)
    assert issuer.asked == []
    job = _verify(issuers, issuer.token())
    assert job == Job(
        "github:my-org/app",
        frozenset(
            {
                claim("github", "repository", "my-org/app"),
                claim("github", "repository_owner", "my-org"),
                claim("github", "ref", "refs/heads/main"),
            }
        ),
        "github",
        int(clock()) + 600,
    )
    _verify(issuers, issuer.token())
    assert issuer.asked == [DISCOVERY, "/keys"]


def test_names_groups_and_claims_inside_claims(
    issuer: Issuer, trusted: TrustedIssuer, clock: Clock
) -> None:
    other = replace(
        trusted,
        name="kube",
        username="{kubernetes.io/namespace}/{kubernetes.io/pod/name}-{run_attempt}",
        groups="groups",
        require={"kubernetes.io.namespace": ("bui*",)},
    )
    job = _verify(OidcIssuers([other], clock=clock), issuer.token())
    assert job.name == "kube:builds/p-1-1"
    assert {"kube:builders", "kube:testers"} <= job.groups
    assert claim("kube", "kubernetes.io/namespace", "builds") in job.groups


def test_nothing_is_accepted_that_was_not_meant_for_us(
    issuer: Issuer, trusted: TrustedIssuer, clock: Clock
) -> None:
    issuers = OidcIssuers([trusted], clock=clock)
    now = int(clock())
    changes: tuple[dict[str, Any], ...] = (
        {"aud": "another"},
        {"aud": ...},
        {"aud": []},
        {"exp": now - 90},
        {"exp": ...},
        {"nbf": now + 90},
        {"iat": ..., "nbf": ...},
        {"repository_owner": "evil"},
        {"repository_owner": ...},
        {"repository_owner": "my-org-2"},
        {"repository_owner": "my-org\n"},
        {"repository_owner": {"my-org": 1}},
        {"repository": ...},
        {"repository": ""},
        {"repository": ["a", "b"]},
        {"repository": "a\nb"},
        {"repository": "x" * 600},
        {"ref": "x" * 5000},
    )
    for changed in changes:
        _refused(issuers, issuer.token(**changed))
    _verify(issuers, issuer.token(aud=["x", "registry.example.com"]))


def test_only_the_issuer_s_own_keys_count(
    issuer: Issuer, trusted: TrustedIssuer, clock: Clock
) -> None:
    issuers = OidcIssuers([trusted], clock=clock)
    attacker = ec.generate_private_key(ec.SECP256R1())
    assert "signature" in _refused(issuers, issuer.token(key=attacker))
    assert "key" in _refused(issuers, issuer.token(kid="mine", key=attacker))
    assert "not trusted" in _refused(issuers, issuer.token(iss="http://127.0.0.1:1"))
    assert "not trusted" in _refused(issuers, issuer.token(iss=issuer.url + "/"))
    for nonsense in ("", "a.b.c", "x" * 20_000, "eyJhbGciOiJub25lIn0.e30."):
        _refused(issuers, nonsense)
    assert set(issuer.asked) == {DISCOVERY, "/keys"}


def test_one_issuer_does_not_speak_for_another(
    issuer: Issuer, trusted: TrustedIssuer, clock: Clock
) -> None:
    second = Issuer(clock)
    try:
        other = replace(trusted, name="gitlab", issuer=second.url)
        issuers = OidcIssuers([trusted, other], clock=clock)
        assert _verify(issuers, second.token()).name == "gitlab:my-org/app"
        _refused(issuers, second.token(iss=issuer.url))
        assert issuers.trusts("gitlab")
        assert not issuers.trusts("git")
    finally:
        second.close()


def test_keys_rotate(issuer: Issuer, trusted: TrustedIssuer, clock: Clock) -> None:
    ticks = Clock()
    issuers = OidcIssuers([trusted], clock=clock, ticks=ticks)
    old = issuer.token()
    _verify(issuers, old)
    issuer.keys["second"] = rsa.generate_private_key(65537, 2048)
    _verify(issuers, issuer.token("second"))
    _verify(issuers, old)
    del issuer.keys["first"]
    ticks.pass_(61)
    assert "not trusted" in _refused(issuers, old)
    _verify(issuers, issuer.token("second"))


def test_an_issuer_that_is_down(issuer: Issuer, trusted: TrustedIssuer, clock: Clock) -> None:
    ticks = Clock()
    issuers = OidcIssuers([trusted], clock=clock, ticks=ticks)
    issuer.down = True
    with pytest.raises(Undecided):
        _verify(issuers, issuer.token())
    assert issuer.url in (issuers.problem or "")
    issuer.down = False
    ticks.pass_(5)
    _verify(issuers, issuer.token())
    issuer.down = True
    ticks.pass_(100)
    _verify(issuers, issuer.token())  # by the keys that are known


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example.com"},
        {"issuer": None},
        {"jwks_uri": "http://198.51.100.1/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": 1},
    ],
)
def test_a_discovery_document_that_is_not_the_issuer_s(
    issuer: Issuer, trusted: TrustedIssuer, clock: Clock, document: dict[str, object]
) -> None:
    issuer.document |= document
    issuers = OidcIssuers([trusted], clock=clock)
    with pytest.raises(Undecided):
        _verify(issuers, issuer.token())
    assert issuer.asked == [DISCOVERY]


def test_without_discovery(issuer: Issuer, trusted: TrustedIssuer, clock: Clock) -> None:
    direct = replace(trusted, keys_url=f"{issuer.url}/keys")
    assert _verify(OidcIssuers([direct], clock=clock), issuer.token()).issuer == "github"
    assert issuer.asked == ["/keys"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Git Hub"}, "name of an issuer"),
        ({"name": "robot"}, "name of an issuer"),
        ({"name": "claim"}, "name of an issuer"),
        ({"issuer": "http://example.com"}, "https"),
        ({"issuer": "example.com"}, "https"),
        ({"keys_url": "http://example.com/keys"}, "https"),
        ({"audiences": ()}, "no audience"),
        ({"audiences": ("",)}, "no audience"),
        ({"username": "job"}, "names no claim"),
        ({"require": {"ref": ()}}, "may have no value"),
        ({"require": {"ref": ("a**",)}}, "alone"),
    ],
)
def test_an_issuer_that_would_let_anybody_in(
    trusted: TrustedIssuer, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        replace(trusted, **changes)  # type: ignore[arg-type]  # each is of its field's type


def test_an_issuer_is_named_once(trusted: TrustedIssuer) -> None:
    with pytest.raises(ValueError, match="twice"):
        OidcIssuers([trusted, trusted])
    with pytest.raises(ValueError, match="twice"):
        OidcIssuers([trusted, replace(trusted, issuer="https://example.com")])
